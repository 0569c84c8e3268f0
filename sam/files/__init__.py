"""Files on disk: weights, SA-1B annotations and masks."""
