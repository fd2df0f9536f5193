"""The shared training loop and its checkpoints."""
