"""Chips to an evaluated, gated and registered model version."""
