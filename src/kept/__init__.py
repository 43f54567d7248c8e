"""kept keeps what Python code computes."""
