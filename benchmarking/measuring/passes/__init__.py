"""One file per kind of measurement."""
