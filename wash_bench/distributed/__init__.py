"""One population over several processes: torch.distributed under torchrun, gloo or NCCL.

``world`` is how the processes of a run see one another (``ranks`` where there are several),
``exchange`` a method's collectives among them, ``spread`` who holds which members. ``group`` joins
the processes, ``launch`` starts them on one machine, ``watch`` notices that one died and ``orphan``
that their launcher did. ``netmodel`` predicts how long exchanges take.
"""
