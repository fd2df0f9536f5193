"""wash-bench: a benchmark suite for weight-averaging methods."""

__version__ = "0.1.0"
