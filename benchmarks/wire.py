"""Bytes on the wire, and the time that they take, between network namespaces joined by veth.

Needs Linux, iproute2 and the right to make namespaces (root).

    python benchmarks/wire.py [--out FILE]           bytes, by the kernel's counters
    python benchmarks/wire.py --time [--out FILE]    time on shaped links, beside the model
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
from pathlib import Path

import torch
from timing import machine, write

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from shares import resnet18

from tests.support.netns import Namespaces, why_not
from tests.support.wire_exchanges import KINDS
from wash_bench.core.layout import layout_of
from wash_bench.core.ledger import CommEvent, CommLedger, charge_mean, charge_permute, latencies
from wash_bench.core.method import CommShape, predict_comm
from wash_bench.core.step_info import Schedule
from wash_bench.distributed.alpha_beta import Network, predict
from wash_bench.plugins.registry import find_method, make_method
from wash_bench.report.tables import markdown

RESNET18 = 11_173_962
DELAY = 0.02
OWN = {"all-reduce": "mean", "all-to-all": "permute"}
LINKS = {"100 Mbit/s": 1e8, "1 Gbit/s": 1e9}
BYTE_JOBS = [
    *[(kind, size, p, 100) for size, p in ((1_200, 0.05), (60_000, 0.5)) for kind in KINDS],
    ("permute", RESNET18, 0.001, 30),
    ("mean", RESNET18, 0.0, 1),
]
SHARES = [("wash", {"p": 0.001}), ("wash", {"p": 0.05}), ("papa", {})]


def bytes_table() -> str:
    rows = []
    for ranks in (2, 3):
        with Namespaces(ranks) as namespaces:
            results = namespaces.run("tests.support.wire_exchanges:count", BYTE_JOBS)
        for of_all in zip(*results, strict=True):
            first = of_all[0]
            exchanges = first["exchanges"]

            def each(name: str, of_all=of_all, per=ranks * exchanges) -> float:
                return sum(found[name] for found in of_all) / per

            link, counted = each("link_bytes"), each("tx_bytes")
            rows.append([
                first["kind"], f"{ranks}", f"{first['size']:,}", f"{exchanges}",
                f"{first['wire_bytes'] / ranks / exchanges:,.1f}", f"{link:,.1f}",
                f"{counted:,.1f}", f"{counted - link:,.1f} ({100 * (counted / link - 1):.1f} %)",
                f"{sum(found['resent'] for found in of_all)}",
            ])  # fmt: skip
    headings = [
        "kind", "ranks", "values a member", "exchanges", "ledger: bytes a member and exchange",
        "link_bytes", "interface", "overhead", "segments resent in all",
    ]  # fmt: skip
    return markdown.table(headings, rows)


def charge_of(kind: str, ranks: int, p: float) -> CommEvent:
    if kind == "mean":
        return charge_mean(ranks, RESNET18)
    return charge_permute(p * RESNET18 * (ranks - 1))


def seconds_of(charge: CommEvent, ranks: int, network: Network) -> float:
    ledger = CommLedger(ranks)
    ledger.add(charge)
    return predict(ledger, 1, network).seconds


def medians(times: list[list[float]]) -> list[float]:
    return [statistics.median(of_job) for of_job in times]


def latency_table() -> tuple[str, dict[tuple[str, int], float]]:
    """Latencies that follow one another, and gloo's own latency by kind and ranks."""
    rows = []
    own: dict[tuple[str, int], float] = {}
    for ranks in (2, 3, 4):
        # The collectives alone tell gloo's own latency; with a delay they are those of the kinds.
        jobs = [(kind, 60, 0.5, 7) for kind in (*KINDS, *OWN)]
        with Namespaces(ranks, delay=DELAY) as namespaces:
            delayed = medians(namespaces.run("tests.support.wire_exchanges:seconds", jobs)[0])
        with Namespaces(ranks) as namespaces:
            direct = medians(namespaces.run("tests.support.wire_exchanges:seconds", jobs)[0])
        for (kind, *_), slow, fast in zip(jobs, delayed, direct, strict=True):
            name = OWN.get(kind, "fetch" if kind in ("pairs", "ring") else kind)
            count = latencies(name, ranks)
            own[name, ranks] = fast / count  # the collective alone comes last
            rows.append([
                kind, f"{ranks}", f"{count}", f"{(slow - fast) / DELAY:.2f}", f"{1e3 * fast:.2f}",
                f"{1e3 * fast / count:.3f}",
            ])  # fmt: skip
    headings = [
        "kind", "ranks", "latencies, model", "latencies, measured", "time without delay, ms",
        "a latency of gloo's own, ms",
    ]  # fmt: skip
    return markdown.table(headings, rows), own


def transfer_table(own: dict[tuple[str, int], float]) -> str:
    rows = []
    # A small message would pass through a large burst at once; a large one costs much computing
    # frame by frame.
    groups = [
        (1, 0.001, ("all-to-all", "posted", "permute"), 15),
        (4, 0.05, ("all-to-all", "posted", "permute"), 15),
        (8, 0.0, ("all-reduce", "mean"), 3),
    ]
    for frames, p, names, times in groups:
        kind = names[-1]
        title = "PAPA's mean" if kind == "mean" else f"shuffle, p = {p}"
        for ranks in (2, 3):
            jobs = [(name, RESNET18, p, times) for name in names]
            taken = {}
            for link, rate in {"": None, **LINKS}.items():
                with Namespaces(ranks, rate, frames) as namespaces:
                    found = medians(namespaces.run("tests.support.wire_exchanges:seconds", jobs)[0])
                taken[link] = dict(zip(names, found, strict=True))
            for link, rate in LINKS.items():
                network = Network(rate / 8, own[kind, ranks])
                predicted = seconds_of(charge_of(kind, ranks, p), ranks, network)
                bare = []
                for name in (names[0], "posted"):
                    took = taken[link].get(name)
                    off = f"{100 * (predicted / took - 1):+.0f} %" if took else ""
                    bare += [f"{1e3 * took:.2f}" if took else "", off]
                rows.append([
                    title, f"{ranks}", link, f"{1e3 * predicted:.2f}", *bare,
                    f"{1e3 * taken[link][kind]:.2f}", f"{1e3 * taken[''][kind]:.2f}",
                ])  # fmt: skip
    headings = [
        "exchange", "ranks", "link", "predicted, ms", "collective, ms", "error of the model",
        "receives posted first, ms", "error of the model", "whole exchange, ms", "unshaped, ms",
    ]  # fmt: skip
    return markdown.table(headings, rows, "lrlrrrrrrr")


def share_table(own: dict[tuple[str, int], float]) -> str:
    rows = []
    with Namespaces(2, LINKS["100 Mbit/s"], 4) as namespaces:
        found = namespaces.run("benchmarks.shares:training", SHARES, 3)[0]
    site = CommShape(layout_of(resnet18(0)), 2, 1)
    for (name, options), (step, exchanged) in zip(SHARES, found, strict=True):
        method = make_method(find_method(name), options)
        every = method.options.every
        ledger = predict_comm(
            method, site, Schedule("constant", 0.1, 0.0, steps=1000, steps_per_epoch=100)
        )
        kind = "mean" if name == "papa" else "permute"
        network = Network(LINKS["100 Mbit/s"] / 8, own[kind, 2])
        predicted, exchanged = predict(ledger, 1000, network).seconds, exchanged / every
        title = f"{name}, p = {options['p']}" if "p" in options else f"{name}, every {every} steps"
        rows.append([
            title, f"{1e3 * step:.0f}", f"{1e3 * exchanged:.2f}", f"{1e3 * predicted:.2f}",
            f"{100 * exchanged / (step + exchanged):.2f} %",
            f"{100 * predicted / (step + predicted):.2f} %",
        ])  # fmt: skip
    headings = [
        "method", "training step, ms", "exchange a step, ms", "predicted, ms",
        "share of the step", "predicted share",
    ]  # fmt: skip
    return markdown.table(headings, rows)


def place() -> str:
    control = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    load = os.getloadavg()[0]
    return (
        f"Machine: {machine()}, {os.cpu_count()} cores, Linux {platform.release()}, TCP {control}, "
        f"gloo; other processes on the machine at the start: load {load:.1f}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if reason := why_not():
        parser.error(reason)
    where = place()
    if not arguments.time:
        head = [
            "# Bytes on the wire",
            "",
            "Each rank, with one member, in a network namespace of its own; veth, a bridge, no "
            "segmentation offload. Bytes are means over ranks and exchanges; the interface's are "
            "tx_bytes (Ethernet, IP and TCP headers, acknowledgements, gloo's headers), less the "
            "two barriers around each measurement. For permute, values a member times p are "
            "chosen (p = 0.05, 0.5, 0.001 in this order).",
            f"{where} Command: `python benchmarks/wire.py`.",
            "",
        ]
        write(arguments.out, "\n".join([*head, bytes_table()]))
        return
    latency, own = latency_table()
    text = [
        "# Time on a given network",
        "",
        f"{where} Command: `python benchmarks/wire.py --time`. Medians; all ranks begin at one "
        "moment, and the time is the last one's.",
        "",
        "## Latencies",
        "",
        f"Tiny messages over a hub that delays every frame by {1e3 * DELAY:.0f} ms, in that unit, "
        "less the time without delay.",
        "",
        latency,
        "",
        "## Transfer",
        "",
        f"ResNet-18's size, {RESNET18:,} float32 values a member; every link shaped each way by "
        "`tc tbf`. The collective is gloo's alone (all-reduce, all-to-all); the same messages "
        "as single ones, receives posted before anybody sends, stand beside the all-to-all. The "
        "whole exchange also packs, unpacks, adds. The prediction takes gloo's own latency from "
        "the table above; no other delay is set.",
        "",
        transfer_table(own),
        "",
        "## Share of a training step",
        "",
        "ResNet-18 (CIFAR stem), batch 64, float32, one thread a rank, N = 2 over 100 Mbit/s; the "
        "exchange with all that it computes.",
        "",
        share_table(own),
    ]
    write(arguments.out, "\n".join(text))


if __name__ == "__main__":
    main()
