"""A model version to masks: the endpoint and its commands."""
