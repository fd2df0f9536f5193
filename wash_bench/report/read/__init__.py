"""The records of a run as data frames."""
