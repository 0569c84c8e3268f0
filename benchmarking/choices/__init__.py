"""What each axis of a sweep can be, and the sweep that crosses them."""
