"""Runs the command line and tells every error in one line on stderr."""

import contextlib
import io
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from wash_bench import stop
from wash_bench.cli.gone import without_gone
from wash_bench.errors import KEPT, LAUNCHED, Interrupted, UsageError, WashBenchError, printable

LINGER = 10.0  # seconds
PARENT_EVERY = 0.5  # seconds between two looks at the launcher
LONGEST = 70  # bytes of TMPDIR; processes meet at sockets in it, of 107 with all that follows


def run_command(arguments: Sequence[str]) -> int:
    """Carry out a command line: exit code 0, 1 for failures, 2 for mistakes, 130 after Ctrl-C.

    After a signal that stops trainings it is 128 and the signal's number.
    """
    _ready_streams()
    _shorten_temporary()
    with _stopped_by_signals():
        return _carried_out(arguments)


def _carried_out(arguments: Sequence[str]) -> int:
    debug = "--debug" in arguments
    try:
        from wash_bench.cli.app import app

        given = _planned(without_gone(arguments))
        _check_empty(given)
        result = app(args=given, prog_name="wash-bench", standalone_mode=False, obj=given)
        if result == Interrupted.exit_code:  # typer makes this of a KeyboardInterrupt
            return _tell_interrupted("interrupted")
        return result if isinstance(result, int) else 0
    except Interrupted as error:
        return _tell_interrupted(str(error))
    except WashBenchError as error:
        return _tell(error, str(error), error.exit_code, debug)
    except KeyboardInterrupt:  # before typer is there to make a result of it
        return _tell_interrupted("interrupted")
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away, as `| head` does: nothing to tell
        return 1
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return _tell(error, f"{error.strerror or error}{where}", 1, debug)
    except Exception as error:
        if type(error).__name__ == "Abort":  # typer's, at a prompt
            return _tell_interrupted("interrupted")
        if told := getattr(error, "format_message", None):  # the parser's, under any version of it
            return _tell(error, told(), getattr(error, "exit_code", 2), debug)
        text = f"internal error, {type(error).__name__}: {error} (--debug shows where)"
        return _tell(error, text, 1, debug)


def _planned(arguments: Sequence[str]) -> list[str]:
    """Return ``plan ...`` for ``run ... --dry-run``."""
    if arguments[:1] == ["run"] and "--dry-run" in arguments:
        return ["plan", *(word for word in arguments[1:] if word != "--dry-run")]
    return list(arguments)


def _check_empty(arguments: Sequence[str]) -> None:
    """Refuse, as a UsageError, an empty value, as of an unset shell variable.

    As a folder it would be the one that the user is in.
    """
    for option, value in itertools.pairwise(["", *arguments]):
        if value == "" or (value.startswith("--") and value.endswith("=")):
            name = value.removesuffix("=") or option
            raise UsageError(f"{name}: its value is empty (an unset variable?); give one")


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGUSR1, as schedulers send them, stop trainings, or unwind like Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with stop.noted():
        yield


def _ready_streams() -> None:
    """Write to nowhere where there is no output, and spell what a terminal cannot show."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def _shorten_temporary() -> None:
    """Leave a TMPDIR, as clusters set it, under which the name of a socket would be too long."""
    given = os.environ.get("TMPDIR", "")
    if len(os.fsencode(given)) > LONGEST and os.access("/tmp", os.W_OK):
        os.environ["TMPDIR"] = "/tmp"


def _tell_interrupted(text: str) -> int:
    if number := stop.requested():
        text = text.replace("interrupted", f"stopped by {signal.Signals(number).name}", 1)
    if os.environ.get("LOCAL_RANK", "0") == "0" and LAUNCHED not in os.environ:
        print(f"wash-bench: {text}", file=sys.stderr)  # noqa: T201
    return 128 + number if number else Interrupted.exit_code


def _tell(error: BaseException, text: str, code: int, debug: bool) -> int:
    """Print the error; of the processes that torchrun started on a host, one does."""
    rank, usage = os.environ.get("RANK", "0"), code == UsageError.exit_code
    others = usage and os.environ.get("LOCAL_RANK", "0") != "0"  # it is the same for all of them
    if debug:
        import traceback

        traceback.print_exception(error)
    if stop.among_ranks() and stop.requested():
        return 128 + stop.requested()  # another rank died; the launcher names it and ends all
    if getattr(error, "told", others):
        time.sleep(LINGER)  # the launcher ends all once the first has: let that be who tells
        return code
    if rank != "0" and not text.startswith("rank ") and not usage:
        text = f"rank {rank}: {text}"
    line = printable(" ".join(text.split()))
    print(f"wash-bench: error: {line}", file=sys.stderr, flush=True)  # noqa: T201
    return code


def end_with_launcher() -> None:
    """End this rank when its launcher dies: without one, nobody else would end it.

    A thread watches, from the process's first second on; before the ranks have met, a rank would
    wait for its peers.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return  # a process that a shell started may outlive it
    # --nproc names its launcher, so that one that died before this line counts too.
    launcher = int(os.environ.get(LAUNCHED) or os.getppid())
    threading.Thread(target=_watch_parent, args=(launcher,), daemon=True).start()


def _watch_parent(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(PARENT_EVERY)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        sys.stderr.write(f"wash-bench: error: the launcher of this run died; {KEPT}\n")
        sys.stderr.flush()
    os._exit(1)
