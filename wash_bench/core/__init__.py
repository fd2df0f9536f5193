"""The benchmark's own parts: population, exchange, ledger, layout, clock, method."""
