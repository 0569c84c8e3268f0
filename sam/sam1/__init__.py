"""Segment Anything (SAM 1), numerically equal to the published implementation."""
