"""A process that dies, or does not belong: one line, exit code 1 or 2, and a run that resumes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import TCPStore

from tests.support.ranks import exit_code_of, in_ranks
from tests.support.shared_folder import made_once
from wash_bench.cli.main import run_command
from wash_bench.distributed import launch
from wash_bench.distributed import process_group as processes
from wash_bench.distributed.heartbeat import Heartbeat
from wash_bench.distributed.ranks import DistributedWorld
from wash_bench.errors import UsageError

pytestmark = pytest.mark.slow

TWO_NODES = Path(__file__).parents[2] / "docs" / "examples" / "torchrun_two_nodes.sh"
EPOCHS = 20
TINY = ["digits", "--train-limit=96", "--image-size=16", "--val-share=0.1", "--stem=keep"]
TINY += ["--batch-size=32", "--population=2", "--device=cpu", "--barrier-points=3", "--seeds=0"]
TINY += ["--barrier-images=20", "--bn-images=32", "--barrier-bn-images=32", "--methods=wash"]
TINY += [f"--epochs={EPOCHS}", "--eval-every=10", "--no-report", "--threads=1"]
PROCS = [str(Path(sys.executable).with_name("wash-bench")), "run", "--nproc=2"]


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _torchrun(ranks: int = 2) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}"]
    return [*launcher, f"--master-port={_port()}", "-m", "wash_bench", "run"]


def _start(
    command: list[str], folder: Path | None = None, ignored: int | None = None, **environment: str
) -> subprocess.Popen:
    """A process, in a folder of its own, that ignores a signal from its start on, as nohup's."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        command,
        cwd=folder,
        preexec_fn=ignored and (lambda: signal.signal(ignored, signal.SIG_IGN) and None),
        env=os.environ | {"OMP_NUM_THREADS": "1", "PATH": path} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _rank(out: Path, rank: int) -> int:
    """The process of a rank that writes to ``out``."""
    found = _found(out, rank)
    assert found, f"no rank {rank}"
    return found


def _found(out: Path, rank: int) -> int | None:
    """The same where it may not be there."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes()
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(out).encode() in arguments and f"RANK={rank}".encode() in environment:
            return int(entry.name)
    return None


def _after_first_checkpoint(out: Path, run: subprocess.Popen) -> None:
    while not list(out.glob("trainings/*/state.json")):
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)


def _ours(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("wash-bench:")]


def _members(out: Path) -> dict[str, torch.Tensor]:
    return {
        f"{path.relative_to(out)}:{name}": tensor
        for path in sorted(out.glob("trainings/*/state-*/member-*"))
        for name, tensor in load_file(path).items()
    }


def _run(arguments: list[str]) -> None:
    sys.exit(run_command(["run", *arguments]))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, torch.Tensor]:
    def make(out: Path) -> None:
        assert exit_code_of(_run, [*TINY, f"--out={out}"]) == 0

    return _members(made_once(tmp_path_factory, "undisturbed", make))


@pytest.mark.fault(
    "Kills and stops",
    "a rank of `--nproc` or torchrun killed",
    "one line that names it, exit 1; the same command goes on, with any number of processes",
)
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the ranks in /proc")
@pytest.mark.parametrize("how", ["procs", "torchrun"])
def test_a_killed_rank_is_named_and_the_run_resumes(
    how: str, undisturbed: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    arguments = [*TINY, f"--out={out}"]
    run = _start([*(PROCS if how == "procs" else _torchrun()), *arguments])
    _after_first_checkpoint(out, run)
    os.kill(_rank(out, 1), signal.SIGKILL)
    began = time.monotonic()
    _, stderr = run.communicate(timeout=60)
    assert time.monotonic() - began < 60
    assert run.returncode == 1
    if how == "procs":
        line = "wash-bench: error: rank 1 was killed (SIGKILL); the last checkpoint is whole"
        assert stderr.startswith(line) and stderr.count("\n") == 1
    else:  # torchrun names it, in a report of its own
        assert "rank      : 1" in stderr and "SIGKILL" in stderr
    assert "wash_bench/" not in stderr  # no traceback of ours
    assert not list(out.glob("cells/*"))
    (events,) = out.glob("trainings/*/events.jsonl")
    marked = events.read_bytes().replace(b'"epoch": 1,', b'"epoch": 7,', 1)
    events.write_bytes(marked)  # stays, unless the training begins anew
    # The other way: --nproc goes on in one process, torchrun's run with --nproc.
    if how == "procs":
        assert exit_code_of(_run, arguments) == 0
    else:
        run = _start([*PROCS, *arguments])
        _, stderr = run.communicate(timeout=400)
        assert run.returncode == 0, stderr
    assert b'"epoch": 7,' in events.read_bytes().splitlines()[1]  # below the schema
    found = _members(out)
    assert found.keys() == undisturbed.keys() and found
    assert all(torch.equal(found[name], tensor) for name, tensor in undisturbed.items())


@pytest.mark.fault(
    "Kills and stops", "a rank that stands still", "one line that names it, exit 1, after a silence"
)
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the ranks in /proc")
def test_a_rank_that_stands_still_is_found(tmp_path: Path) -> None:
    """The rest ends after the silence; how long torchrun then waits is its own affair."""
    out = tmp_path / "runs"
    (tmp_path / "random.py").write_text("raise ImportError('a file of the user')")
    command = [*PROCS, *TINY, "--epochs=100000", f"--out={out}"]
    run = _start(command, folder=tmp_path, ignored=signal.SIGHUP)
    _after_first_checkpoint(out, run)
    run.send_signal(signal.SIGHUP)  # the terminal is gone: nohup's processes go on
    stopped, other = _rank(out, 1), _rank(out, 0)
    os.kill(stopped, signal.SIGSTOP)
    began = time.monotonic()
    try:
        while _alive(other):
            assert time.monotonic() - began < 60
            time.sleep(0.1)
    finally:
        os.kill(stopped, signal.SIGKILL)
    assert time.monotonic() - began > 10  # no sooner: a busy machine may hold a rank up
    _, stderr = run.communicate(timeout=60)
    assert run.returncode == 1
    (line,) = _ours(stderr)
    assert line.startswith("wash-bench: error: rank 1 died or stands still; ")


@pytest.mark.fault(
    "Kills and stops",
    "the launcher of `--nproc` killed before its ranks have met",
    "the ranks end within seconds",
)
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the ranks in /proc")
def test_ranks_end_with_their_launcher(tmp_path: Path) -> None:
    out = tmp_path / "runs"
    run = _start([*PROCS, *TINY, "--epochs=100000", f"--out={out}"])
    while (rank := _found(out, 1)) is None:
        assert run.poll() is None
        time.sleep(0.01)
    run.kill()
    began = time.monotonic()
    while _alive(rank) or _found(out, 0):
        assert time.monotonic() - began < 30
        time.sleep(0.1)
    _, stderr = run.communicate(timeout=60)  # the ranks held it open
    assert len(_ours(stderr)) <= 1  # a rank may end before it can tell anything


@pytest.mark.fault(
    "Kills and stops",
    "the host of rank 0 silent, as without power: no connection breaks",
    "the other ranks end in a line, exit 1, after `--heartbeat-timeout`",
)
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the ranks in /proc")
def test_a_silent_host_is_found(tmp_path: Path) -> None:
    """The launcher, which keeps what the ranks tell one another, and rank 0 stand still."""
    out = tmp_path / "runs"
    run = _start([*PROCS, *TINY, "--epochs=100000", "--heartbeat-timeout=5", f"--out={out}"])
    _after_first_checkpoint(out, run)
    other, first = _rank(out, 1), _rank(out, 0)
    os.kill(first, signal.SIGSTOP)
    run.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        while _alive(other):
            assert time.monotonic() - began < 40
            time.sleep(0.1)
        assert time.monotonic() - began > 4
    finally:
        os.kill(first, signal.SIGKILL)
        run.send_signal(signal.SIGCONT)
    _, stderr = run.communicate(timeout=60)
    assert run.returncode == 1
    first, *more = _ours(stderr)
    assert first.startswith("wash-bench: error: rank 0 or its host (127.0.0.1) is silent; ")
    assert len(more) <= 1  # the launcher, which goes on here, tells of rank 0


def _alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _two_nodes(out: Path, *more: list[str]) -> list[tuple[int, str, str]]:
    port = str(_port())
    nodes = [
        _start(
            ["bash", str(TWO_NODES), *TINY, "--epochs=2", f"--out={out}", *more[rank]],
            HEAD="127.0.0.1", NODE_RANK=str(rank), PORT=port,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    answers = [node.communicate(timeout=400) for node in nodes]
    return [(node.returncode, *answer) for node, answer in zip(nodes, answers, strict=True)]


def test_two_nodes_form_one_group(tmp_path: Path) -> None:
    (first, stdout, stderr), (second, silent, _) = _two_nodes(tmp_path, [], [])
    assert (first, second) == (0, 0), stderr
    assert "finished" in stdout and silent == ""
    (environment,) = tmp_path.glob("trainings/*/state.json")
    assert '"ranks": 2' in environment.read_text()


@pytest.mark.fault(
    "Options and presets",
    "nodes started with different settings",
    "refused at the start, with both values",
)
def test_another_setting_on_a_node_is_refused_at_the_start(tmp_path: Path) -> None:
    answers = _two_nodes(tmp_path, ["--lr=0.1"], ["--lr=0.3"])
    for code, _, stderr in answers:
        assert code == 1  # torchrun's
        (line,) = _ours(stderr)
        assert line.startswith("wash-bench: error: rank 1 has lr 0.3 and rank 0 has 0.1: ")
    assert not list(tmp_path.glob("trainings/*"))


def _disagree(versions: dict[int, str]) -> str:
    world = DistributedWorld()
    processes.version = lambda name: versions[world.rank] if name == "timm" else "1"
    try:
        processes.check_same_config(world, {"lr": 0.1})
    except UsageError as error:
        return str(error)
    return ""


@pytest.mark.fault(
    "Options and presets",
    "nodes with different versions",
    "refused at the start, with both versions",
)
def test_another_version_on_a_rank_is_refused() -> None:
    answers = in_ranks(2, _disagree, {0: "1.0.15", 1: "1.0.16"})
    expected = "rank 1 has timm 1.0.16 and rank 0 has 1.0.15: start the same command"
    assert all(answer.startswith(expected) for answer in answers)


def test_a_restarted_attempt_does_not_read_the_words_of_the_one_before(monkeypatch) -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for name, value in (("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", str(store.port))):
        monkeypatch.setenv(name, value)
    found = []
    for attempt in ("0", "0", "1"):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", attempt)
        heartbeat = Heartbeat(rank=0, ranks=1, timeout=60)
        seen: list[str] = []
        monkeypatch.setattr(heartbeat, "_exit", seen.append)
        time.sleep(0.5)
        found.append(bool(seen))
        if len(found) == 1:
            assert heartbeat.fail("out of memory")
        heartbeat.close()
    assert found == [False, True, False]


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's list of sockets")
def test_the_processes_of_one_machine_meet_on_the_loopback_alone() -> None:
    store, port = launch._loopback_store()
    tables = [Path("/proc/net", name).read_text() for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table.splitlines()]
    listening = [row[1].split(":") for row in rows if row[3] == "0A"]
    assert [address for address, at in listening if int(at, 16) == port] == ["0100007F"]
    del store


def test_a_mistake_is_told_once(tmp_path: Path) -> None:
    run = _start([*_torchrun(), *TINY, "--epochs=0", f"--out={tmp_path}"])
    _, stderr = run.communicate(timeout=400)
    assert run.returncode == 1
    (line,) = _ours(stderr)
    assert line == "wash-bench: error: --epochs 0: must be a whole number, at least 1"
