"""The figures: a module each, and the catalogue of them all."""
