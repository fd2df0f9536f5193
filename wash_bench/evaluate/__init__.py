"""What is measured on a trained population."""
