"""One population over several processes: torch.distributed under torchrun, gloo or NCCL.

``process_group`` joins the processes of a run, ``world`` is how they see one another, ``ranks``
the same over torch.distributed, with a method's collectives. ``launch`` starts processes on one
machine, ``heartbeat`` notices that one fell silent. ``alpha_beta`` predicts the time of exchanges.
"""
