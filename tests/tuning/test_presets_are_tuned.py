"""The couplings of the presets are those that the committed tunings chose."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUNINGS = ROOT / "results/tuning"
OF_PACKAGE = ROOT / "wash_bench/presets"
PRESETS = {"converged-methods": "converged"}  # of folders that have not the preset's name
# In the preset local SGD is the control that averages at every step; with a period it is a row.
CONTROLS = {("converged", "local-sgd")}


def chosen() -> list[tuple[str, str, dict[str, object]]]:
    """Of each tuning: the preset, a method, and the options that were chosen for it."""
    found = []
    for path in sorted(TUNINGS.glob("*/tuned.toml")):
        preset = PRESETS.get(path.parent.name, path.parent.name)
        for method, options in tomllib.loads(path.read_text(encoding="utf-8"))["set"].items():
            if (preset, method) not in CONTROLS:
                found.append((preset, method, options))
    return found


CHOSEN = chosen()


def test_there_are_tunings() -> None:
    assert len({preset for preset, _, _ in CHOSEN}) >= 3


@pytest.mark.parametrize(
    ("preset", "method", "options"), CHOSEN, ids=[f"{p}-{m}" for p, m, _ in CHOSEN]
)
def test_a_preset_has_the_coupling_that_was_chosen(
    preset: str, method: str, options: dict[str, object]
) -> None:
    given = tomllib.loads((OF_PACKAGE / f"{preset}.toml").read_text(encoding="utf-8"))["set"]
    inner, *around = method.split("+")
    for wrapper in around:
        assert options.get(wrapper, {}) == given.get(wrapper, {})
    assert {key: value for key, value in options.items() if key not in around} == given[inner]
