"""Pieces that several merge rules share."""
