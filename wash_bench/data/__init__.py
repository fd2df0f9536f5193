"""Data sets, their fixed splits, and batch-wise augmentation."""
