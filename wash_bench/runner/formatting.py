"""Counts, bytes and durations in words."""

NOT_PREDICTED = "not predicted"  # of a method that does not say what it will send


def count(value: float | None) -> str:
    """A number of things with thousands separators, one decimal where it is an expectation."""
    if value is None:
        return NOT_PREDICTED
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def size(n_bytes: float | None) -> str:
    """Bytes in decimal units, as ``12.3 MB``."""
    if n_bytes is None:
        return NOT_PREDICTED
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} B" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.1f} TB"


def span(seconds: float | None) -> str:
    """A duration as ``0:21``, ``1:02:03`` or ``3 d 4 h``; ``-`` where it is not known."""
    if seconds is None:
        return "-"
    whole = max(0, round(seconds))
    if whole >= 48 * 3600:
        return f"{whole // 86400} d {whole % 86400 // 3600} h"
    hours, rest = divmod(whole, 3600)
    if hours:
        return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
    return f"{rest // 60}:{rest % 60:02d}"
