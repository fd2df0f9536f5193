"""Names that the light and the heavy modules share."""

WRAP = "+"
"""Stands between a method and what goes around it: ``wash+ema``."""


def parts(name: str) -> list[str]:
    """The names of a method and its wrappers, from the inside to the outside."""
    return name.split(WRAP)
