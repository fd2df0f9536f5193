"""Presets, study files and options, resolved into a list of cells with their ids."""
