"""Methods as plug-ins: which there are, how one is imported, named and given its options."""
