"""The couplings of the presets are those that the committed tunings chose."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUNINGS = ROOT / "results/tuning"
OF_PACKAGE = ROOT / "wash_bench/presets"


def chosen() -> list[tuple[str, str, dict[str, object]]]:
    """Return the preset, a method and its chosen options, per row of each finished tuning."""
    rows = []
    for path in sorted(TUNINGS.glob("*/tuned.toml")):
        preset = next(
            name
            for name in sorted((p.stem for p in OF_PACKAGE.glob("*.toml")), key=len, reverse=True)
            if path.parent.name.startswith(name)
        )
        for method, options in tomllib.loads(path.read_text(encoding="utf-8"))["set"].items():
            rows.append((preset, method, options))
    return rows


CHOSEN = chosen()


@pytest.mark.skipif(not CHOSEN, reason="no tuning is finished")
@pytest.mark.parametrize(
    ("preset", "method", "options"), CHOSEN, ids=[f"{p}-{m}" for p, m, _ in CHOSEN]
)
def test_a_preset_has_the_coupling_that_was_chosen(
    preset: str, method: str, options: dict[str, object]
) -> None:
    whole = tomllib.loads((OF_PACKAGE / f"{preset}.toml").read_text(encoding="utf-8"))
    if method == "single":  # whose rate and decay are those of all methods
        assert options == {key: whole[key.replace("_", "-")] for key in options}
        return
    given = whole["set"]
    inner, *around = method.split("+")
    for wrapper in around:
        assert options.get(wrapper, {}) == given.get(wrapper, {})
    assert {key: value for key, value in options.items() if key not in around} == given[inner]
