"""Caches on other machines: a wire of typed messages, its two ends, and what carries it."""
