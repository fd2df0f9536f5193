"""Writes a prepared folder, shard by shard; a killed one goes on with the shards that it lacks."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from wash_bench import stop
from wash_bench.data.image import opened
from wash_bench.data.paths import TEST_PARTS, content_of, earlier_content_of
from wash_bench.data.prepared import index as form
from wash_bench.data.prepared.encode import NotDecoded, Work, encode, end_with_parent, resized
from wash_bench.data.prepared.index import PARTS, Index, Shard
from wash_bench.data.scan import scan
from wash_bench.errors import UsageError, WashBenchError, note
from wash_bench.files import digest_of, write_text

IMAGES = 1000  # of a shard: at ImageNet's sides half a gigabyte
_SAMPLE = 200  # images whose headers tell how large all will be
OTHER = "{} was made from other images, or otherwise; remove it, or choose another --out"
_LOCK = ".lock"
_STATE = "preparing.txt"  # the content that the shards of an unfinished folder are of

Report = Callable[[int, int], None]
"""Called with the images that are done and all that there are."""


def prepare(
    root: Path, out: Path, *, side: int, interpolation: str, jobs: int, report: Report
) -> tuple[Index, bool]:
    """Decode all images of a folder with train/ and val/ into ``out``.

    Args:
        root: the folder.
        out: the prepared folder; one of these images that is whole is only checked, an unfinished
            one is gone on with.
        side: pixels that a larger shorter side is resized to; 0 keeps all as they are.
        interpolation: how they are resized.
        jobs: processes that decode.
        report: told of the progress.

    Returns:
        What the prepared folder holds, and whether it was whole before.

    Raises:
        UsageError: ``out`` holds something else.
    """
    if form.is_prepared(root):
        raise UsageError(f"{root} is prepared already: name the folder that its images came from")
    if any(
        (root / part).resolve() in (out / "file").resolve().parents
        for part in ("train", *TEST_PARTS)
    ):
        raise UsageError(f"{out} lies among the class folders of {root}; choose another --out")
    content = form.content_when(content_of(root), side, interpolation)
    earlier = form.content_when(earlier_content_of(root), side, interpolation)
    if form.is_prepared(out):
        return _checked(out, (content, earlier), report), True
    with _taken(out, content):
        if form.is_prepared(out):  # by another process meanwhile
            (out / _STATE).unlink()
            return _checked(out, (content, earlier), report), True
        return _written(root, out, content, side, interpolation, jobs, report), False


def _written(
    root: Path, out: Path, content: str, side: int, interpolation: str, jobs: int, report: Report
) -> Index:
    """Decode all images into a folder that belongs to this process.

    Returns:
        What it holds.

    Raises:
        WashBenchError: an image does not decode, a shard is damaged, the disk is full, or a
            process was killed.
    """
    folders = scan(root)
    for line in folders.notes:
        note(line)
    top = folders.open.keywords["top"] if isinstance(folders.open, partial) else 0
    files = dict(zip(PARTS, (folders.train, folders.test), strict=True))
    works = {
        (part, number): Work(
            form.pixels(out, part, number),
            paths[first : first + IMAGES],
            side,
            interpolation,
            top,
        )
        for part, (paths, _) in files.items()
        for number, first in enumerate(range(0, len(paths), IMAGES))
    }
    try:
        _need_space(out, [path for paths, _ in files.values() for path in paths], side)
        made = _made(works, jobs, report)
        tables, shards = {}, []
        for part, (_, labels) in files.items():
            own = [made[key] for key in works if key[0] == part]
            shapes = np.concatenate([shard.shapes for shard in own])
            table = np.column_stack([shapes, labels]).astype(np.int32)
            np.save(out / f"{part}.npy", table)
            tables[part] = digest_of(out / f"{part}.npy")
            shards += [
                Shard(part, number, len(shard.shapes), shard.size, shard.sha256)
                for number, shard in enumerate(own)
            ]
        index = Index(folders.classes, content, side, interpolation, tables, tuple(shards))
        write_text(out / form.NAME, index.text())
        for path in [*out.glob("*.npz"), out / _STATE]:
            path.unlink()
    except OSError as error:
        raise WashBenchError(
            f"cannot write to {out}: {error.strerror or error}; make room, and the same command "
            "goes on"
        ) from None
    return index


@dataclass(frozen=True, slots=True)
class _Made:
    """A shard that is whole: (n, 2) heights and widths, bytes, SHA-256."""

    shapes: np.ndarray
    size: int
    sha256: str


@contextlib.contextmanager
def _taken(out: Path, content: str) -> Iterator[None]:
    """Hold the folder, made anew or of an unfinished call on these images, for one process."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is no folder; choose another --out")
    state = out / _STATE
    if out.is_dir() and any(p.name != _LOCK for p in out.iterdir()) and not state.is_file():
        raise UsageError(f"{out} holds other files; choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / _LOCK, timeout=0):
            if state.is_file() and state.read_text(encoding="utf-8") != content:
                raise UsageError(OTHER.format(out))
            state.write_text(content, encoding="utf-8")
            yield
            (out / _LOCK).unlink(missing_ok=True)
    except Timeout:
        raise WashBenchError(
            f"another process is preparing {out}: wait for it to end, or choose another --out"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror}; choose another --out") from None


def _need_space(out: Path, paths: Sequence[str], side: int) -> None:
    """Before hours of work, a WashBenchError if the disk cannot hold what is missing."""
    chosen = paths[:: max(1, len(paths) // _SAMPLE)]
    pixels = []
    for path in chosen:
        with contextlib.suppress(Exception), opened(path) as file:  # decoding will name it
            pixels.append(math.prod(resized(file.size, side)))
    needed = 3 * sum(pixels) / max(1, len(pixels)) * len(paths)
    there = sum(path.stat().st_size for path in out.glob("*.pixels"))
    free = shutil.disk_usage(out).free
    if needed - there > free:
        raise WashBenchError(
            f"{len(paths):,} images take about {needed / 1e9:,.1f} GB, and {out} has room for "
            f"{free / 1e9:,.1f} GB: choose another --out"
            + ("" if side else ", or make them smaller (--side 256)")
        )


def _made(
    works: dict[tuple[str, int], Work], jobs: int, report: Report
) -> dict[tuple[str, int], _Made]:
    """All shards; those that are there are taken."""
    total = sum(len(work.paths) for work in works.values())
    made = {key: shard for key, work in works.items() if (shard := _there(work)) is not None}
    report(done := sum(len(works[key].paths) for key in made), total)
    missing = {key: work for key, work in works.items() if key not in made}
    # Spawned, not forked: libraries that are loaded here run threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(missing)) or 1, context, end_with_parent) as pool:
        # An interrupt is for this process, which ends the others.
        with stop.blocked():
            futures = {pool.submit(encode, work): key for key, work in missing.items()}
        try:
            for key, (shapes, sha256) in _results(futures):
                target = works[key].target
                made[key] = _Made(shapes, target.stat().st_size, sha256)
                _remember(target, made[key])
                report(done := done + len(shapes), total)
        except NotDecoded as error:
            path, why = error.args
            raise WashBenchError(
                f"cannot read image {path}: {why}; repair or remove the file, and the same command "
                "goes on"
            ) from None
        except BrokenProcessPool:
            raise WashBenchError(
                "a process was killed, perhaps for memory: with fewer --jobs the same command "
                "goes on"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)
    return made


def _results(
    futures: dict[Future[tuple[np.ndarray, str]], tuple[str, int]],
) -> Iterator[tuple[tuple[str, int], tuple[np.ndarray, str]]]:
    for future in as_completed(futures):
        yield futures[future], future.result()


def _there(work: Work) -> _Made | None:
    """A shard that an earlier call finished; None if it is not there, or not whole."""
    try:
        with np.load(work.target.with_suffix(".npz")) as told:
            made = _Made(told["shapes"], int(told["size"]), str(told["sha256"]))
        whole = made.size == work.target.stat().st_size and len(made.shapes) == len(work.paths)
    except (OSError, ValueError, KeyError, EOFError):
        return None
    return made if whole else None


def _remember(target: Path, made: _Made) -> None:
    """Say that a shard is whole, in a file beside it."""
    part = target.with_suffix(".tmp.npz")
    np.savez(part, shapes=made.shapes, size=made.size, sha256=made.sha256)
    part.replace(target.with_suffix(".npz"))


def _checked(out: Path, contents: Sequence[str], report: Report) -> Index:
    """A whole prepared folder, every byte compared with what was written."""
    index = form.read_index(out)
    if index.content not in contents:
        raise UsageError(OTHER.format(out))
    files = [(out / f"{part}.npy", sha256, 0) for part, sha256 in index.tables.items()]
    files += [(shard.path(out), shard.sha256, shard.images) for shard in index.shards]
    done = 0
    for path, sha256, images in files:
        try:
            whole = digest_of(path) == sha256
        except OSError:
            whole = False
        if not whole:
            raise WashBenchError(
                f"{path}: its bytes are not those that were written; {form.again(out)}"
            )
        report(done := done + images, index.images)
    return index
