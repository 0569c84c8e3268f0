"""The commands of sam-bench: each parses, calls, prints, and imports what it needs when it runs."""
