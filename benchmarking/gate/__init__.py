"""The A/B gate: two sides, measured in turn, until the difference is settled."""
