"""The sdist and the wheel: what is in them, and that they work away from the clone."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
pytest.importorskip("build")

ROOT = Path(__file__).parents[1]
PARTS = ("wash_bench", "methods", "docs", "README.md", "LICENSE", "pyproject.toml", "setup.py")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The folder with both; the wheel is made from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"
    source.mkdir()
    for name in PARTS:
        if (ROOT / name).is_dir():
            skip = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=skip)
        else:
            shutil.copy(ROOT / name, source)
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def unpacked(built: Path) -> Path:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(built / "wheel")
    return built / "wheel"


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory) -> Path:
    """The programs of a new environment that has the wheel, and this one's other packages."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (wheel,) = built.glob("*.whl")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install",
         "--quiet", "--no-deps", "--disable-pip-version-check", str(wheel)],
        cwd=folder, env=_environment(), check=True,
    )  # fmt: skip
    (packages,) = folder.glob("lib/*/site-packages")
    # A .pth file in a folder that another one names is not read: wash_bench is the wheel's.
    (packages / "others.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return folder / "bin"


def test_both_pass_the_index_s_check(built: Path) -> None:
    pytest.importorskip("twine")
    files = [str(path) for path in built.iterdir() if path.is_file()]
    assert sorted(Path(name).suffix for name in files) == [".gz", ".whl"]
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], check=True)


def test_only_wash_bench_is_installed(unpacked: Path) -> None:
    tops = {path.name for path in unpacked.iterdir() if not path.name.endswith(".dist-info")}
    assert tops == {"wash_bench"}
    assert (unpacked / "wash_bench/methods/wash.py").exists()
    assert (unpacked / "wash_bench/presets/digits.toml").exists()
    assert (unpacked / "wash_bench/data/files/fashion_mini.npz").exists()
    assert any((unpacked / "wash_bench/data/files").glob("*LICEN*"))
    guide = (ROOT / "docs/own-method.md").read_text(encoding="utf-8")
    assert (unpacked / "wash_bench/templates/own-method.md").read_text(encoding="utf-8") == guide


def test_every_module_is_in_the_wheel(unpacked: Path) -> None:
    modules = {path.relative_to(ROOT) for path in (ROOT / "wash_bench").rglob("*.py")}
    modules |= {Path("wash_bench") / path.relative_to(ROOT) for path in ROOT.glob("methods/*.py")}
    assert modules - {path.relative_to(unpacked) for path in unpacked.rglob("*.py")} == set()


def test_the_readme_as_the_index_shows_it_has_no_relative_link(unpacked: Path) -> None:
    (path,) = unpacked.glob("*.dist-info/METADATA")
    shown = message_from_string(path.read_text(encoding="utf-8")).get_payload()
    links = re.findall(r"\]\(([^)]+)\)", str(shown))
    own = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(links) == len(own) > 20
    for link, target in zip(links, own, strict=True):
        assert link.startswith("https://") and link.endswith(target)
    assert [link for link in links if "/raw/main/" in link and link.endswith(".svg")]


@pytest.mark.parametrize("arguments", [["methods"], ["presets", "digits"], ["datasets"]])
def test_lists_work_away_from_the_clone(
    installed: Path, tmp_path: Path, arguments: list[str]
) -> None:
    done = _called(tmp_path, installed / "wash-bench", *arguments)
    assert "wash" in done or "digits" in done


def test_the_digits_run_and_report_away_from_the_clone(installed: Path, tmp_path: Path) -> None:
    where = "import wash_bench, wash_bench.methods; print(wash_bench.methods.__file__)"
    found = Path(_called(tmp_path, installed / "python", "-c", where).strip())
    assert found.is_relative_to(installed.parent)
    _called(
        tmp_path, installed / "wash-bench", "run", "digits", "--methods", "wash", "--seeds", "0",
        "--epochs", "1", "--train-limit", "200", "--jobs", "1", "--device", "cpu",
    )  # fmt: skip
    assert (tmp_path / "runs/report/report.html").exists()
    said = _called(tmp_path, installed / "wash-bench", "new-method", "my-rule")
    (guide,) = re.findall(r"\S+own-method\.md", said)
    assert Path(guide).is_relative_to(installed.parent) and Path(guide).exists()


def _environment() -> dict[str, str]:
    """Without the clone on Python's path."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def _called(folder: Path, program: Path, *arguments: str) -> str:
    done = subprocess.run(
        [program, *arguments], cwd=folder, env=_environment(), check=True, capture_output=True,
        text=True,
    )  # fmt: skip
    return done.stdout
