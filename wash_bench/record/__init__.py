"""Run folders: what a run leaves on disk (docs/records.md), and which process may write there.

``identity`` says what cells and trainings are called, ``store`` where their files lie, ``schema``
of which version they are. ``events`` and ``environment`` are two of these files. ``locks`` keeps
several runs on one folder apart, ``status`` says what they are at, ``prune`` finds what can go,
``folders`` the run folders that a user names.
"""
