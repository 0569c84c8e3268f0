"""Answers computed from records: batching, capacity, limits, comparison, history, advice."""
