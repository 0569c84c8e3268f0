"""Records that are made up, so that tables and pages show something without a GPU."""
