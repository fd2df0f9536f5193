"""Run folders: what a run leaves on disk (docs/records.md), and who may write there.

``identity`` says what cells and trainings are called, ``store`` where their files lie, ``schema``
of which version they are. ``events`` and ``environment`` are two of these files, ``files`` writes
them whole. ``presence`` and ``claims`` keep plain runs and workers apart. ``folders`` finds run
folders, ``join`` makes one of several.
"""
