"""One population over several processes: torch.distributed under torchrun, gloo or NCCL."""
