"""Data sets, their fixed splits, and batch-wise augmentation.

``catalog`` lists the data sets; ``arrays`` and ``fashion`` read the small ones, ``scan`` lists
class folders, which ``prepare`` decodes once (``prepared``). ``load`` makes of a configuration a
``source`` of batches: in ``memory``, from a ``folder``, or of noise (``stand_in``). ``recipe`` says
how a member sees images, ``augment``, ``auto_augment`` and ``mix`` do it. ``splits`` and ``subset``
are parts of a data set; ``counts`` and ``place`` tell its size and whether it is there before
anything is loaded.
"""
