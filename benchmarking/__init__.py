"""Runs sweeps: plans cases, measures each in a worker process, and keeps the records."""
