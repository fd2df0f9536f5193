"""A process that dies, or does not belong: one line, exit code 1 or 2, and a run that resumes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from tests.support.command import RANKS, Command, command_line, torchrun
from tests.support.images import class_folders
from tests.support.ranks import exit_code_of, in_ranks
from tests.support.shared_folder import made_once
from wash_bench.cli.main import run_command
from wash_bench.distributed import launch
from wash_bench.distributed import process_group as processes
from wash_bench.distributed.heartbeat import Heartbeat
from wash_bench.distributed.ranks import DistributedWorld
from wash_bench.errors import LAUNCHED, UsageError

pytestmark = pytest.mark.slow

TWO_NODES = Path(__file__).parents[2] / "docs" / "examples" / "torchrun_two_nodes.sh"
EPOCHS = 20
TINY = ["digits", "--train-limit=96", "--image-size=16", "--val-share=0.1", "--stem=keep"]
TINY += ["--batch-size=32", "--population=2", "--device=cpu", "--barrier-points=3", "--seeds=0"]
TINY += ["--barrier-images=20", "--bn-images=32", "--barrier-bn-images=32", "--methods=wash"]
TINY += [f"--epochs={EPOCHS}", "--eval-every=10", "--no-report", "--threads=1"]
PROCS = ["run", "--nproc=2"]


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _launched() -> list[str]:
    """What stands before the options of ``run`` under torchrun."""
    return ["--nproc-per-node=2", f"--master-port={_port()}", "-m", "wash_bench", "run"]


@pytest.fixture
def ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the ranks of a test's commands leave their pids."""
    folder = tmp_path / "ranks"
    folder.mkdir()
    monkeypatch.setenv(RANKS, str(folder))
    return folder


def _rank(ranks: Path, rank: int) -> int:
    """The process of a rank, once it has begun."""
    began = time.monotonic()
    while not (pid := _found(ranks, rank)):
        assert time.monotonic() - began < 60, f"no rank {rank}"
        time.sleep(0.01)
    return pid


def _found(ranks: Path, rank: int) -> int | None:
    path = ranks / str(rank)
    return int(path.read_text()) if path.exists() and path.read_text() else None


def _after_first_checkpoint(out: Path, run: Command | subprocess.Popen) -> None:
    while not list(out.glob("trainings/*/state.json")):
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)


def _ours(stderr: str) -> list[str]:
    """The lines of ours, without notes on the network."""
    lines = [line for line in stderr.splitlines() if line.startswith("wash-bench:")]
    return [line for line in lines if not line.startswith("wash-bench: note:")]


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
    "one line that names it, exit 1; the same command resumes, with any number of processes",
)
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the ranks in /proc")
@pytest.mark.parametrize("how", ["procs", "torchrun"])
def test_a_killed_rank_is_named_and_the_run_resumes(
    how: str, undisturbed: dict[str, torch.Tensor], ranks: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    arguments = [*TINY, f"--out={out}"]
    if how == "procs":
        run = Command([*PROCS, *arguments])
    else:
        run = Command([*_launched(), *arguments], function=torchrun)
    _after_first_checkpoint(out, run)
    os.kill(_rank(ranks, 1), signal.SIGKILL)
    began = time.monotonic()
    _, stderr = run.communicate(timeout=60)
    assert time.monotonic() - began < 60
    assert run.returncode == 1
    if how == "procs":
        (line,) = _ours(stderr)
        text = "wash-bench: error: rank 1 was killed (SIGKILL); the last checkpoint is whole"
        assert line.startswith(text) and "Traceback" not in stderr
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
        run = Command([*PROCS, *arguments])
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
def test_a_rank_that_stands_still_is_found(ranks: Path, tmp_path: Path) -> None:
    """The rest ends after the silence; how long torchrun then waits is its own affair."""
    out = tmp_path / "runs"
    arguments = [*PROCS, *TINY, "--epochs=100000", f"--out={out}"]
    run = Command(arguments, function=_under_nohup)
    _after_first_checkpoint(out, run)
    run.send_signal(signal.SIGHUP)  # the terminal is gone: nohup's processes go on
    stopped, other = _rank(ranks, 1), _rank(ranks, 0)
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
def test_ranks_end_with_their_launcher(ranks: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    run = Command([*PROCS, *TINY, "--epochs=100000", f"--out={out}"])
    rank, first = _rank(ranks, 1), _rank(ranks, 0)
    run.kill()
    began = time.monotonic()
    while _alive(rank) or _alive(first):
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
def test_a_silent_host_is_found(ranks: Path, tmp_path: Path) -> None:
    """The launcher, which keeps what the ranks tell one another, and rank 0 stand still."""
    out = tmp_path / "runs"
    run = Command([*PROCS, *TINY, "--epochs=100000", "--heartbeat-timeout=5", f"--out={out}"])
    _after_first_checkpoint(out, run)
    other, first = _rank(ranks, 1), _rank(ranks, 0)
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


def test_a_users_file_is_not_taken_for_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranks start with ``-m``, which would look for packages in the working folder first."""
    for name in (LAUNCHED, "PYTHONSAFEPATH", "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "")  # launch sets them; they are put back afterwards

    def started(config: object, program: str):
        return lambda *given: subprocess.run([program, *given], cwd=tmp_path, check=True)

    monkeypatch.setattr(launch, "elastic_launch", started)
    (tmp_path / "typer.py").write_text("raise ImportError('a file of the user')")
    assert launch.launch(2, ["presets"]) == 0


def _under_nohup(arguments: Sequence[str]) -> int:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return command_line(arguments)


def _alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _two_nodes(tmp_path: Path, *more: list[str]) -> list[tuple[int | None, str, str]]:
    """The example's script on each node; what it starts torchrun with is run by a fork."""
    program = tmp_path / "bin" / "torchrun"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    own = {"PATH": path, "HEAD": "127.0.0.1", "PORT": str(_port())}
    nodes = []
    for rank in (0, 1):
        script = ["bash", str(TWO_NODES), *TINY, "--epochs=2", f"--out={tmp_path}", *more[rank]]
        env = os.environ | own | {"NODE_RANK": str(rank)}
        found = subprocess.run(script, env=env, check=True, capture_output=True, text=True)
        nodes.append(Command(found.stdout.splitlines(), function=torchrun))
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


@pytest.mark.fault(
    "Images and data sets", "nodes that hold other images under one name", "refused at the start"
)
def test_other_images_on_a_node_are_refused_at_the_start(tmp_path: Path) -> None:
    for node in "01":
        class_folders(tmp_path / node / "pets", 8 + int(node), 8, 8)
    data = [[f"--dataset=folder:{tmp_path / node / 'pets'}"] for node in "01"]
    for code, _, stderr in _two_nodes(tmp_path, *data):
        assert code == 1
        (line,) = [each for each in _ours(stderr) if "error" in each]
        assert line.startswith("wash-bench: error: rank 1 has images "), line
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
        seen: list[str] = []
        monkeypatch.setattr(Heartbeat, "_exit", lambda self, reason, seen=seen: seen.append(reason))
        heartbeat = Heartbeat(rank=0, ranks=1, timeout=60)
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
    """By torchrun itself and fresh interpreters, which need not import torch to answer."""
    program = [sys.executable, "-m", "torch.distributed.run", *_launched()]
    command = [*program, *TINY, "--epochs=0", f"--out={tmp_path}"]
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    assert run.returncode == 1
    (line,) = _ours(run.stderr)
    assert line == "wash-bench: error: --epochs 0: must be a whole number, at least 1"
