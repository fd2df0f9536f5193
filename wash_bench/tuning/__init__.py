"""Tuning: a grid of methods' options, tried on seeds of its own, and chosen by validation data.

- ``grid``: which settings are tried, from the command line or a file, and where it goes on.
- ``choice``: what a setting is worth, which is the best, and what the seeds do not tell from it.
- ``outcome``: from the records of a run folder to the choice.
- ``write``: the table, and the preset with the best settings.
"""
