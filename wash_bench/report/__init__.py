"""Reports: read records, write tables and figures. Imports no torch."""
