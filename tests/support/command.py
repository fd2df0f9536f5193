"""The command line: called in this process, or run in a process of its own.

``Command`` starts a real process (own pid, signals, exit code, standard streams, folder and
environment) without the seconds that a fresh interpreter needs to import torch and timm: it is
forked from the server of ``ranks.py``, which has imported them and computed nothing. What is
decided before or by imports needs a fresh interpreter, with ``subprocess``: ``-m`` and the console
script, ``PYTHONPATH``, which packages are loaded, the locale's encoding, variables that a package
reads as it is imported (``HF_HOME``). The ranks of ``--nproc`` are forked by their launcher; where
``RANKS`` names a folder, each writes its pid into the file of its rank there.
"""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import multiprocessing.process
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

from tests.support.ranks import FORK_SERVER
from wash_bench.cli.main import run_command

RANKS = "WASH_BENCH_TEST_RANKS"


def command(capsys, *arguments: str) -> tuple[int, str, str]:
    """Call the command line in this process: its exit code, standard output and error."""
    code = run_command(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


class Command:
    """``wash-bench ARGUMENTS`` in a forked process; the methods are those of ``Popen``.

    Args:
        arguments: the command line.
        env: its whole environment, by default that of this process.
        cwd: its folder.
        stdout, stderr: files it writes to, by default temporary ones that ``communicate`` reads.
        session: whether it leads a session and process group of its own.
        function: called with the arguments in place of the command line; of a module's top level.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdout: Path | None = None,
        stderr: Path | None = None,
        session: bool = False,
        function: Callable[[Sequence[str]], int] | None = None,
    ) -> None:
        self.args = ["wash-bench", *arguments]
        self._streams = tempfile.TemporaryDirectory(prefix="command-")
        self._stdout = stdout or Path(self._streams.name, "stdout")
        self._stderr = stderr or Path(self._streams.name, "stderr")
        streams = (str(self._stdout), str(self._stderr))
        given = (dict(os.environ if env is None else env), str(cwd or Path.cwd()))
        self._process = FORK_SERVER.Process(
            target=_become, args=(self.args, *given, streams, session, function or command_line)
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end, and return what it and its children wrote."""
        self.wait(timeout)
        return self._stdout.read_text(errors="replace"), self._stderr.read_text(errors="replace")

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def torchrun(arguments: Sequence[str]) -> int:
    """What the program ``torchrun`` does, for ``Command``."""
    from torch.distributed.run import main

    _fork_ranks()
    main(list(arguments))
    return 0


def command_line(arguments: Sequence[str]) -> int:
    from wash_bench.__main__ import main

    if any(argument.startswith("--nproc") for argument in arguments):
        _fork_ranks()
    try:
        main()  # reads sys.argv
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _fork_ranks() -> None:
    """Let torch's launcher fork its ranks, where it would start fresh interpreters."""
    from torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler import (
        SubprocessHandler,
    )

    SubprocessHandler._popen = lambda self, args, env: _Rank(args, env)  # pyright: ignore[reportAttributeAccessIssue]


class _Rank(subprocess.Popen):
    """A fork of this process in place of ``python -m wash_bench ARGUMENTS``."""

    def __init__(self, args: tuple[str, ...], env: dict[str, str]) -> None:
        module = args.index("-m")  # torchrun gives -u before it
        assert args[module + 1] == "wash_bench", args
        self._given = (["wash-bench", *args[module + 2 :]], env)
        super().__init__(args)

    def _execute_child(self, *_: object) -> None:
        self._child_created = True
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid:
            return
        try:
            gc.collect()
            gc.freeze()  # nothing of the launcher may close a descriptor of the rank's
            os.closerange(3, 4096)
            for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
                if signal.getsignal(number) != signal.SIG_IGN:
                    signal.signal(number, signal.SIG_DFL)
            argv, env = self._given
            if folder := env.get(RANKS):
                Path(folder, env["RANK"]).write_text(str(os.getpid()))
            _become(argv, env, None, None, True, command_line)
        finally:
            os._exit(1)


def _become(
    argv: list[str],
    env: dict[str, str],
    cwd: str | None,
    streams: tuple[str, str] | None,
    session: bool,
    function: Callable[[Sequence[str]], int],
) -> None:
    """Make of a forked process one that a shell could have started; never return."""
    if session:
        os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for descriptor, path in enumerate((os.devnull, *(streams or ()))):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC if descriptor else os.O_RDONLY
        opened = os.open(path, flags, 0o666)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(env)
    if cwd:
        os.chdir(cwd)
    tempfile.tempdir = None
    sys.argv = argv
    random.seed()
    _forget_the_server()
    code = 1
    try:
        code = function(argv[1:])
    except KeyboardInterrupt:  # as the interpreter does at the top
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream and not stream.closed:
            stream.flush()
    os._exit(code)


def _forget_the_server() -> None:
    """No parent in the sense of multiprocessing, no server and no tracker: it starts its own."""
    this = multiprocessing.current_process()
    this.name = "MainProcess"
    this._identity, this._parent_pid = (), None  # pyright: ignore[reportAttributeAccessIssue]
    multiprocessing.process._parent_process = None  # pyright: ignore[reportAttributeAccessIssue]
    multiprocessing.process._children = set()  # pyright: ignore[reportAttributeAccessIssue]
    for part in (forkserver._forkserver, resource_tracker._resource_tracker):
        part.__init__()  # pyright: ignore[reportAttributeAccessIssue]
