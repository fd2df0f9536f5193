"""wash-bench: a benchmark suite for weight-averaging methods.

``run``, ``plan``, ``load``, ``table``, ``figures``, ``merge``, ``barrier`` and ``Coupling`` are for
programs and notebooks; they are imported when they are first asked for (``__init__.pyi`` has them
for editors).
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_MODULES = {
    **dict.fromkeys(("run", "plan"), "runs"),
    **dict.fromkeys(("load", "table", "figures"), "reports"),
    **dict.fromkeys(("merge", "barrier"), "networks"),
    "Coupling": "coupling",
}


def __getattr__(name: str) -> Any:
    """A function of the interface; an AttributeError for what is none."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.api.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """What is offered, for completion."""
    return sorted(["__version__", *_MODULES])
