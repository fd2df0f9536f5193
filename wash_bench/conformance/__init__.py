"""What every method must hold, as a library: ``wash-bench check`` runs it on a method.

>>> from wash_bench.conformance.suite import check
>>> from wash_bench.plugins.registry import find_method
>>> all(finding.passed for finding in check(find_method("papa"), processes=False))
True
"""
