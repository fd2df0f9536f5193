"""Where a training ran: one flat row of facts, so that numbers can be read with their machine."""

import os
import platform
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from wash_bench.cores import cores

jobs = 1
"""Trainings side by side in this run: whoever starts several processes sets it in each."""

THEN = ", then "
"""Between the values of a training that began in one environment and went on in another."""

PACKAGES = ("torch", "torchvision", "timm", "numpy")


def capture(device: str = "cpu") -> dict[str, str | int | float]:
    """The environment of this process.

    torch is asked only if it is loaded already, so this costs no import.

    Args:
        device: the device that trains, as ``cpu`` or ``cuda:1``.

    Returns:
        Flat: date (UTC, ISO 8601), wash_bench, commit ("" outside a checkout; ends in "-dirty"
        if tracked files were changed), python, platform, cpu, cpu_cores (those this process may
        use), memory_gib, the versions of ``PACKAGES`` ("" if not installed), threads (intra-op
        threads of torch), device (a GPU by its name), cuda ("" without), jobs (trainings side by
        side).
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "wash_bench": _version("wash-bench"),
        "commit": _commit(Path(__file__).resolve().parents[2]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpu_cores": cores(),
        "memory_gib": _memory(),
        **{name: _version(name) for name in PACKAGES},
        **_torch(device),
        "jobs": jobs,
    }


def continued(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The environment of a training that began in one and goes on in another.

    Args:
        before: the environment so far.
        now: that of this process.

    Returns:
        What differs reads "A, then B": the training's bits may be those of neither alone. The date
        is that of the beginning, memory that of the last machine.
    """
    merged = dict(now)
    for key, old in before.items():
        last = str(old).rpartition(THEN)[2]
        if key == "date" or last == str(now.get(key)):
            merged[key] = old
        elif key not in ("date", "memory_gib"):
            merged[key] = f"{old}{THEN}{now.get(key, '?')}"
    return merged


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _cpu() -> str:
    """The processor's model; ``platform.processor()`` is empty or an architecture on Linux."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model", "Hardware"):
                return value.strip()
    except OSError:
        pass
    if sys.platform == "darwin":
        return _output(["sysctl", "-n", "machdep.cpu.brand_string"])
    return platform.processor() or platform.machine()


def _memory() -> float:
    """Physical memory in GiB; 0 where the system does not tell."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return 0.0


def _torch(device: str) -> dict[str, str | int]:
    torch = sys.modules.get("torch")
    if torch is None:
        return {"threads": cores(), "device": device, "cuda": ""}
    name = device
    if device.startswith("cuda") and torch.cuda.is_available():
        name = torch.cuda.get_device_name(device)
    return {
        "threads": torch.get_num_threads(),
        "device": name,
        "cuda": torch.version.cuda or "" if torch.cuda.is_available() else "",
    }


def _commit(root: Path) -> str:
    """The commit of ``root`` if it is a checkout of wash-bench itself, not one around it."""
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    if project.get("project", {}).get("name") != "wash-bench" or not (root / ".git").exists():
        return ""
    commit = _output(["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"])
    if not commit:
        return ""
    changed = _output(["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"])
    return f"{commit}-dirty" if changed else commit


def _output(command: list[str]) -> str:
    """What a command prints; "" if it is missing, fails or hangs. It never reaches the terminal."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
