"""One module a method. Nothing is imported here; methods are found by their entry points."""
