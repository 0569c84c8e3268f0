"""Records as data frames: columns, statistics, and how values are shown."""
