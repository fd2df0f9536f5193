"""The run's displays: plain lines, the live table, units."""

from __future__ import annotations

import io

from wash_bench.api.display import (
    Display,
    LiveDisplay,
    PlainDisplay,
    display_for,
    display_for_program,
    fitting,
)
from wash_bench.runner.formatting import size, span
from wash_bench.runner.progress import Progress


def progress(status="training", training="wash-s0", **more) -> Progress:
    return Progress(training, ("wash",), 0, status, epochs=20, **more)


def test_plain_lines():
    now = [0.0]
    stream = io.StringIO()
    display = display_for(stream)
    assert isinstance(display, PlainDisplay)
    display.clock = lambda: now[0]
    with display:
        display(progress("waiting"))
        for step in range(201):  # ten steps an epoch, one second an epoch
            now[0] = step / 10
            accuracy = None if step < 10 else 50.0 + step // 10
            display(progress(epoch=step / 10, step=step, val_acc=accuracy, loss=0.5))
        display(progress("evaluating", epoch=20))
        display(progress("finished", epoch=20, sent_bytes=2_500_000, val_acc=70.0))
        display(progress("failed", training="other", message="member 1: loss is\r\nnot finite"))
    text = stream.getvalue()
    assert "\r" not in text and "\x1b" not in text
    lines = text.splitlines()
    assert not any("waiting" in line for line in lines)  # of many trainings it says nothing
    validated = [line for line in lines if "] training epoch" in line]
    assert validated[1] == "[wash seed 0] training epoch 5/20 loss 0.5000 validation 55.00 %"
    assert len(validated) == 5  # the start, then one in five seconds
    assert lines[-2].endswith("finished validation 70.00 % sent 2.5 MB a member")
    assert lines[-1] == "[wash seed 0] failed member 1: loss is not finite"


def test_a_training_that_ended_keeps_its_numbers_and_the_methods_that_read_it():
    stream = io.StringIO()
    display = PlainDisplay(stream)
    both = ("greedy-soup", "wash+ema")
    display(Progress("t", both, 0, "training", epoch=3, epochs=3, loss=0.5, val_acc=71.5,
                     sent_bytes=2e6))  # fmt: skip
    display(Progress("t", both, 0, "finished"))
    line = stream.getvalue().splitlines()[-1]
    shown = "finished loss 0.5000 validation 71.50 % sent 2.0 MB a member"
    assert line == f"[greedy-soup, wash+ema seed 0] {shown}"


def test_a_programs_own_observer_is_shown_nothing_besides():
    seen = []
    with display_for_program(seen.append) as told:
        told(progress())
    assert seen == [progress()]
    with display_for_program(None) as silent:
        assert type(silent) is Display


def test_a_reader_that_went_away_does_not_end_the_run():
    class Closed(io.StringIO):
        def flush(self):
            raise BrokenPipeError

    display = PlainDisplay(Closed())
    for status in ("training", "finished"):
        display(Progress("t", ("wash",), 0, status))
    assert display.rows["t"].status == "finished"


def test_live_table(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    display = display_for(stream)
    assert isinstance(display, LiveDisplay)
    with display:
        display(progress(epoch=3, loss=0.25, val_acc=91.5, sent_bytes=12e6, seconds_left=75))
    for part in ("wash", "training", "3.0/20", "0.2500", "91.50 %", "12.0 MB", "1:15"):
        assert part in stream.getvalue()
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(display_for(stream), PlainDisplay)


def test_a_low_terminal_keeps_what_is_running():
    states = ["cached", "finished", "training", "failed", "waiting", "waiting"]
    rows = [progress(status, training=str(i)) for i, status in enumerate(states)]
    kept, text = fitting(rows, 3)
    assert [row.status for row in kept] == ["training", "failed", "waiting"]
    assert text == "not shown: 1 cached, 1 finished, 1 waiting"
    assert fitting(rows, 6) == (rows, "")


def test_units():
    assert [size(n) for n in (0, 999, 1000, 12_345_678, 4.5e9)] == [
        "0 B", "999 B", "1.0 kB", "12.3 MB", "4.5 GB"
    ]  # fmt: skip
    assert [span(s) for s in (None, 21, 3723, 200_000)] == ["-", "0:21", "1:02:03", "2 d 7 h"]
