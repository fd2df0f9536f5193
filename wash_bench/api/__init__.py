"""What ``import wash_bench`` offers to programs and notebooks; the command line stands on it.

The functions are attributes of the package, which imports their modules when they are first asked
for: ``import wash_bench`` alone imports nothing heavy.
"""
