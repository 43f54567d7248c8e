"""Runs and where results come from."""
