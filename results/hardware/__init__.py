"""What devices can do and what they cost, by their vendors and as measured."""
