"""Names that the light and the heavy modules share."""

OVERLAP = "+overlap"
"""Suffix of a method whose exchanges run while the next step computes."""
