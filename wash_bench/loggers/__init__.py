"""Live logs of trainings: what reads the events that a run records, and hands them to a writer."""

from wash_bench.loggers.contract import Event, LoggedTraining, Logger

__all__ = ["Event", "LoggedTraining", "Logger"]
