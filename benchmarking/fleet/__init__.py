"""Many GPUs and machines: which case runs where, and what becomes of those whose machine dies."""
