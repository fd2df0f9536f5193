"""Ten thousand damaged inputs: each must end in results or one line, and touch nothing else.

``python -m tests.fuzz`` (``make fuzz``) makes inputs from whole ones by changes that a seed draws:
command lines, presets, method files, records with their logs and points, tables, image folders and
networks of other programs. Of each it checks: no "internal error" and no traceback, exit code 0, 1
or 2, an end within a minute, no change of what was given, no file outside the folder that it may
write, no control character on the terminal, no formula in a table, and no other score of a network
than timm's. What would train stops where training begins.
tests/test_fuzz.py runs a few; ``--only N`` repeats one.
"""
