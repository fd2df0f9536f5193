"""The shared training loop: its steps, not when it is run (``runner.trainer``).

``loop`` is the loop, ``optim`` the members' optimizers, ``vary`` their own hyperparameters,
``probe`` the epochs that train heads alone, ``checkpoint`` the state on disk.
"""
