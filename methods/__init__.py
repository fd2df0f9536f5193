"""One module per method, NAME.py. Nothing is imported here: the registry finds them."""
