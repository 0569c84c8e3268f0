"""The worker's side: the only folder that imports torch at module level."""
