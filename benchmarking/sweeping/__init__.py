"""Planning a sweep, running its cases in workers, and judging what they measured."""
