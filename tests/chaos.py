"""Kills runs at random moments, resumes them, and holds the end to an undisturbed run.

``python -m tests.chaos`` (``make chaos``) makes chains of one command: it is killed, started again,
perhaps killed again, and let finish. At the end members, event logs, measurements and cells must
have the bits of a run that nothing disturbed, the run folder the same files, and no process and no
temporary file may be left. After each kill every process of the run must be gone within a minute,
and no traceback shown. tests/runner/test_chaos.py runs a few.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.command import Command

PROGRAM = [sys.executable, "-m", "wash_bench"]
RUN = ["digits", "--train-limit=96", "--image-size=16", "--val-share=0.1", "--stem=keep"]
RUN += ["--batch-size=32", "--population=2", "--device=cpu", "--barrier-points=3", "--threads=1"]
RUN += ["--barrier-images=20", "--bn-images=32", "--barrier-bn-images=32", "--seeds=0"]
WHOLE = ("--methods=wash,greedy-soup,naive-ensemble,wash+ema", "--epochs=12", "--eval-every=3")
WHOLE += ("--eval-average-every=5",)
CODED = ("--methods=papa+topk,papa+int4,streaming-diloco", "--epochs=6", "--eval-every=3")
LOGGED = ("--methods=wash", "--epochs=6", "--log=csv", "--corruptions=fog,contrast")
LOGGED += ("--corruption-images=20",)
TUNED = ("--grid=wash.p=0.05,0.3", "--grid=papa.alpha=0.5,0.9", "--epochs=3", "--seeds=100")
NETWORKS = ("{inputs}/networks/0", "{inputs}/networks/1")
MERGED = ("--methods=uniform-soup,greedy-soup,fisher", "--threads=1")
MERGED += ("--dataset=digits", "--barrier-points=3", "--barrier-images=20", "--bn-images=32")
MODES = {  # {run} is what a test trains
    "one process": ("run", *RUN, "{run}", "--jobs=1", "--out={out}"),
    "--jobs 2": ("run", *RUN, "{run}", "--jobs=2", "--out={out}"),
    "--nproc 2": ("run", *RUN, "{run}", "--nproc=2", "--out={out}"),
    "--nproc 2, codes": ("run", *RUN, *CODED, "--nproc=2", "--out={out}"),
    "loggers, corruptions": ("run", *RUN, *LOGGED, "--jobs=1", "--out={out}"),
    "two runs": ("run", *RUN, "{run}", "--jobs=1", "--worker", "--out={out}"),
    "tune": ("tune", *RUN[:-1], *TUNED, "--jobs=1", "--out={out}", "--tables={out}/tables"),
    "merge": ("merge", *NETWORKS, *MERGED, "--out={out}"),
    "report": ("report", "{inputs}/runs", "--out={out}"),
    "export": ("export", "wash", "--runs={inputs}/runs", "--out={out}"),
    "prepare": ("prepare", "{inputs}/images", "--out={out}"),
}
TRAINS = ("one process", "--jobs 2", "--nproc 2")
PHASES = ("before the first checkpoint", "training", "evaluating, or between trainings")
PHASES += ("writing a file", "reporting")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
MARK = "WASH_BENCH_CHAOS"  # of the environment of all processes of a chain
GONE = 60.0  # seconds after a kill until every process must have ended
LONG = 600.0
DRAWN = (".html", ".png", ".svg", ".lock")  # which hold a date, or nothing
# What a run that was killed cannot have in common with another one; the table of a first chain
# makes the checkout another than it was.
TIMES = ("seconds", "finished_at", "date", "memory_gib", "since", "by", "checksum", "commit")


@dataclass
class Chain:
    """One command, killed until it has been let finish.

    Attributes:
        mode: one of ``MODES``.
        run: what the command trains.
        folder: of its own; the run folder is ``runs`` in it, temporary files belong into ``tmp``.
        fork: whether processes are forked from one that has imported torch, which takes seconds.
        kills: the signal, and what the run was at when it came.
        faults: what was not as it must be.
    """

    mode: str
    run: tuple[str, ...]
    folder: Path
    fork: bool = False
    kills: list[tuple[str, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.folder / "runs"

    @property
    def words(self) -> list[str]:
        """The command line."""
        found: list[str] = []
        for word in MODES[self.mode]:
            named = word.replace("{out}", str(self.out))
            named = named.replace("{inputs}", str(self.folder.parent / "inputs"))
            found += self.run if word == "{run}" else [named]
        return found

    def start(self) -> subprocess.Popen[str] | Command:
        temporary, ranks = self.folder / "tmp", self.folder / "ranks"
        for folder in (temporary, ranks):
            folder.mkdir(parents=True, exist_ok=True)
        own = {MARK: str(self.folder), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
        if self.fork:
            from tests.support.command import RANKS, Command

            return Command(
                self.words,
                env=os.environ | own | {RANKS: str(ranks)},
                stdout=self.folder / "stdout",
                stderr=self.folder / "stderr",
                session=True,
            )
        with (
            (self.folder / "stdout").open("w") as told,
            (self.folder / "stderr").open("w") as wrong,
        ):
            return subprocess.Popen(
                [*PROGRAM, *self.words],
                env=os.environ | own,
                stdout=told,
                stderr=wrong,
                text=True,
                start_new_session=True,
                # What a shell starts in the background ignores it, and so do its children.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
            )

    def finish(self) -> float:
        """Let the command end by itself; the seconds it took."""
        began = time.monotonic()
        run = self.start()
        if code := run.wait(LONG):
            self.faults.append(f"ended with {code}: {self.said()}")
        self.await_end()
        return time.monotonic() - began

    def kill(self, number: signal.Signals, delay: float, group: bool) -> bool:
        """Start the command and send it a signal; whether it came before the end."""
        other = self.start() if self.mode == "two runs" else None
        run = self.start()
        try:
            run.wait(delay)
        except subprocess.TimeoutExpired:
            pass
        else:
            if other:
                other.wait(LONG)
            return False
        if group:
            os.killpg(run.pid, number)
        else:
            run.send_signal(number)
        try:
            code = run.wait(GONE)
        except subprocess.TimeoutExpired:
            self.faults.append(f"did not end of {number.name} within {GONE:.0f} s")
            os.killpg(run.pid, signal.SIGKILL)
            code = run.wait()
        # Before the program's first line, and where Python keeps an interrupt in mind to its end,
        # the system's own answer holds; the run may also just be done.
        if code not in (-number, 128 + number, 0, -signal.SIGINT):
            self.faults.append(f"{number.name}: ended with {code}: {self.said()}")
        if other and (other_code := other.wait(LONG)):
            self.faults.append(f"the other run ended with {other_code}: {self.said()}")
        self.await_end()
        if code:
            self.kills.append((number.name, phase(self.out)))
        if "Traceback" in self.said() and self.out.exists():
            self.faults.append(f"{number.name}: {self.said()}")
        return True

    def await_end(self) -> None:
        """No process of the command stays behind."""
        began = time.monotonic()
        while left := list(marked(str(self.folder))):
            if time.monotonic() - began > GONE:
                self.faults.append(f"processes left behind: {left}")
                for process in left:
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.05)

    def said(self) -> str:
        return (self.folder / "stderr").read_text(errors="replace")[-2000:]

    def compare(self, undisturbed: Path) -> None:
        """Hold the run folder to that of a run that nothing disturbed."""
        expected, found = contents(undisturbed), contents(self.out)
        for name in sorted(expected.keys() | found.keys()):
            if name not in found:
                self.faults.append(f"{name} is missing")
            elif name not in expected:
                self.faults.append(f"{name} was left behind")
            elif expected[name] != found[name]:
                self.faults.append(f"{name} has other bits")
        # Of killed programs the system's own temporary files stay, of whole ones nothing may.
        ours = [path for path in (self.folder / "tmp").rglob("*") if "wash" in path.name]
        self.faults += [f"{path} was left behind" for path in ours]


def marked(folder: str) -> Iterator[int]:
    """The processes, zombies apart, that were started for a chain, and the ranks it forked."""
    mark = f"{MARK}={folder}".encode()
    forked = {path.read_text() for path in Path(folder, "ranks").glob("*")}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
                if mark in environment.split(b"\0") or (environment and entry.name in forked):
                    yield int(entry.name)
            except OSError:
                continue


def phase(out: Path) -> str:
    """What a run was at, as its folder shows."""
    states = list(out.glob("trainings/*/state.json"))
    if list(out.rglob("*.part")):
        return "writing a file"
    if list(out.glob("report*")) or list(out.glob(".report*")):
        return "reporting"
    if not states:
        return PHASES[0]
    done = [json.loads(path.read_text())["finished"] for path in states]
    return "training" if not all(done) else PHASES[2]


def contents(out: Path) -> dict[str, object]:
    """What the files of a run folder hold, without times; of a report that they are there."""
    found: dict[str, object] = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.is_dir():
            continue
        data = path.read_bytes()
        if name.startswith(("report", ".made")) or path.suffix in DRAWN:
            found[name] = bool(data)
        elif path.suffix == ".json":
            found[name] = timeless(json.loads(data))
        elif path.name == "log.csv":
            rows = [line.split(",") for line in data.decode().splitlines()]
            found[name] = [row for row in rows if "seconds" not in row[3]]
        else:
            found[name] = data
    return found


def timeless(data: object) -> object:
    if isinstance(data, dict):
        return {k: timeless(v) for k, v in data.items() if not k.endswith(TIMES)}
    return [timeless(value) for value in data] if isinstance(data, list) else data


def chains(
    kills: int,
    seed: int,
    work: Path,
    run: tuple[str, ...] = WHOLE,
    side: int = 1,
    modes: Sequence[str] = TRAINS,
    fork: bool = False,
) -> Iterator[Chain]:
    """Chains of one to three kills, the modes in turn, until there were enough kills.

    Args:
        kills: how many in all, at least.
        seed: of signals and moments.
        work: an empty folder.
        run: what the command trains, as options of ``wash-bench run``.
        side: chains at a time.
        modes: of ``MODES``.
        fork: as ``Chain`` has it.

    Yields:
        Each chain with its faults, once it has ended.
    """
    lasts, undisturbed = {}, {}
    if set(modes) - {*TRAINS}:
        make_inputs(work / "inputs")
    for mode in modes:
        whole = Chain(mode, run, work / f"undisturbed-{len(lasts)}", fork)
        lasts[mode] = whole.finish()
        assert not whole.faults, whole.faults
        undisturbed[mode] = whole.out

    def carry_out(number: int) -> Chain:
        mode = modes[number % len(modes)]
        chain, draw = (
            Chain(mode, run, work / f"chain-{number}", fork),
            random.Random(f"{seed}/{number}"),
        )
        for _ in range(draw.randint(1, 3)):
            which, group = draw.choice(SIGNALS), draw.random() < 0.3
            # From when the program is loaded, till a little after the run's end.
            delay = draw.uniform(0.1, 1.05) * lasts[mode]
            chain.kill(which, delay, group or which == signal.SIGINT)
        chain.finish()
        chain.compare(undisturbed[mode])
        return chain

    done = number = 0
    with ThreadPoolExecutor(side) as pool:
        while done < kills:
            for chain in pool.map(carry_out, range(number, number + side)):
                done += len(chain.kills)
                yield chain
            number += side


def make_inputs(folder: Path) -> None:
    """Make what other commands than ``run`` read: a run, exported networks, an image folder."""
    from tests.support.images import class_folders

    class_folders(folder / "images", 300, 24, 24, test_count=100)
    short = ("--methods=wash,naive-ensemble", "--epochs=2", "--no-report", "--jobs=1")
    subprocess.run([*PROGRAM, "run", *RUN, *short, f"--out={folder / 'runs'}"], check=True)
    for member in range(2):
        place = folder / "networks" / str(member)
        words = ["export", "wash", f"--runs={folder / 'runs'}", f"--network=member:{member}"]
        subprocess.run([*PROGRAM, *words, f"--out={place}"], check=True)


def table(found: list[Chain], seed: int, seconds: float) -> str:
    """The result as Markdown."""
    from wash_bench.record.environment import capture

    machine = capture()
    kills = sum(len(chain.kills) for chain in found)
    faulty = [chain for chain in found if chain.faults]
    lines = [
        "# Kills at random moments",
        "",
        f"`make chaos` (seed {seed}): {kills} kills in {len(found)} chains of one command, each "
        "killed one to three times, resumed by the same command and compared with an undisturbed "
        f"run, byte by byte. Chains with a fault: {len(faulty)}. {machine['cpu']}, "
        f"{machine['cpu_cores']} cores, torch {machine['torch']}, {seconds / 60:.0f} minutes.",
        "",
        "Kills by command, signal, and what the command was at:",
        "",
        "| command | " + " | ".join([*(s.name for s in SIGNALS), *PHASES]) + " |",
        "| --- |" + " ---: |" * (len(SIGNALS) + len(PHASES)),
    ]
    for mode in dict.fromkeys(chain.mode for chain in found):
        own = [kill for chain in found if chain.mode == mode for kill in chain.kills]
        counts = Counter(text for kill in own for text in kill)
        row = [str(counts[text]) for text in (*(s.name for s in SIGNALS), *PHASES)]
        lines.append(f"| {mode} | " + " | ".join(row) + " |")
    for chain in faulty:
        lines += ["", f"- {chain.mode}, {chain.kills}: {'; '.join(chain.faults)}"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=1, help="chains at a time")
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES, help="commands")
    parser.add_argument("--out", type=Path, help="file for the table")
    given = parser.parse_args()
    began, found, text = time.monotonic(), [], ""
    with TemporaryDirectory(prefix="chaos-") as work:
        for chain in chains(
            given.kills, given.seed, Path(work), side=given.side, modes=given.modes
        ):
            found.append(chain)
            outcome = "; ".join(chain.faults) or "the same bits"
            print(f"{chain.mode}: {chain.kills}: {outcome}", flush=True)
            text = table(found, given.seed, time.monotonic() - began)
            if given.out:
                given.out.write_text(text)
    print(text)
    sys.exit(any(chain.faults for chain in found))


if __name__ == "__main__":
    main()
