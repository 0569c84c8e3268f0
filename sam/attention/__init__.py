"""Variants of the image encoder's attention."""
