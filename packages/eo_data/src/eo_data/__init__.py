"""Satellite scenes to validated chips, and what training and serving must agree on."""
