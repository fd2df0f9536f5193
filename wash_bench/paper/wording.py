"""The words around a table: what was run, at which scale and where, and how to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wash_bench.paper.published import Published
from wash_bench.report.numbers.machines import machine, mixed
from wash_bench.report.tables.caption import intervals
from wash_bench.report.tables.notes import of_collapsed
from wash_bench.settings.coupling import in_words
from wash_bench.settings.sweep import all_told

if TYPE_CHECKING:
    import pandas as pd

    from wash_bench.config import TrainingConfig
    from wash_bench.paper.finished import PaperTable

NOT_AVAILABLE = "not available"
LETTERS = (
    "Rows that share a letter are not significantly different at 95 % (t tests of all pairs,"
    " adjusted by Holm; two-way fit of rows and seeds)."
)


def above(table: PaperTable) -> list[str]:
    """The sentences above the table."""
    configs = [line.resolved.config for line in table.lines]

    def of(name: str) -> list[str]:
        return list(dict.fromkeys(str(getattr(config.training, name)) for config in configs))

    steps = sorted({int(record["summary"]["steps"]) for record in table.records})
    epochs = of("epochs")
    length = f"{_listed(epochs)} epoch{'' if epochs == ['1'] else 's'}"
    if steps:
        length += f" = {_listed([f'{count:,}' for count in steps])} steps"
    # What belongs together is told together: an image size is one of a data set and a model.
    data = dict.fromkeys(_data(config.training) for config in configs)
    rates = dict.fromkeys(
        f"{c.training.optimizer}, learning rate {c.training.lr:g}" for c in configs
    )
    several = "each row's is in its label"
    sentences = [
        table.named.table.about,
        f"Scale {table.scale}: {'; '.join(data)}. {length} of {_listed(of('batch_size'))} images"
        f" a member; {_listed(list(rates))}; {_listed(of('init'))} initial weights; validation"
        f" share {_listed(of('val_share'))}.",
    ]
    seeds = sorted({record["seed"] for record in table.records})
    if not seeds:
        return [*sentences, "No cell finished."]
    text = intervals(seeds)
    sentences.append(f"Accuracies in per cent on test data. {text[0].upper()}{text[1:]}")
    if len(steps) > 1:
        sentences.append(f"This table mixes training budgets: {several}.")
    if len(data) > 1:
        sentences.append(f"This table mixes data or networks: {several}.")
    rows = _environments(table)
    sentences.append(
        f"{machine(rows)} The trainings and their evaluation took {table.seconds / 60:.0f} minutes,"
        " added up."
    )
    if several_machines := mixed(rows):
        sentences.append(f"{several_machines.partition(': ')[0]} (see below).")
    if not table.published:
        return sentences
    if table.scale == "paper":
        sentences.append("Difference: ours minus published.")
    else:
        sentences.append(
            "Published numbers are those of the papers' own data, network and length; none is"
            " of this scale, so no difference is formed."
        )
    return sentences


def below(table: PaperTable, *, letters: bool) -> list[str]:
    """The notes under the table, in which values may have letters."""
    notes = [LETTERS] * letters
    notes += of_collapsed([table.lines[place].row.label for place in table.collapsed()])
    several = {line.resolved.config.training.model_dump_json() for line in table.lines}
    if letters and len(several) > 1:
        notes.append("Letters compare rows of equal N, augmentation, data, network and budget.")
    for line in table.lines:
        config = line.resolved.config
        if told := config.coupling.get(line.row.method):
            notes.append(f"{line.row.label}: coupling {in_words(told)}.")
        elif options := config.set.get(line.row.method):
            told = all_told(options)
            if line.row.label.endswith(told):
                continue
            notes.append(f"{line.row.label}: {told}.")
    for entry in table.entries.values():
        if line := entry.published:
            notes.append(f"Published, {line.method}: {_source(line)}.")
    for line in table.also:
        notes.append(
            f"Published beside the table: {line.paper}, {line.method}, {line.metric}"
            f" {line.text}: {_source(line)}."
        )
    notes += [mixed(_environments(table)), *_not_available(table)]
    return list(dict.fromkeys(filter(None, notes)))


def _not_available(table: PaperTable) -> list[str]:
    """Which published numbers are not there, and how they come in."""
    papers = " and ".join(table.named.table.papers)
    if not papers:
        return ["No paper that the package knows has this table."]
    metrics = table.named.table.metrics
    places = range(len(table.lines))
    missing = [m for m in metrics if any(table.entries[i, m].published is None for i in places)]
    if not missing:
        return []
    which = "of this table" if len(missing) == len(metrics) and not table.published else "shown so"
    return [
        f"Published numbers of {papers} {which}: {NOT_AVAILABLE} (the source could not be had);"
        " --published FILE fills them in (columns of published.csv)."
    ]


def _data(training: TrainingConfig) -> str:
    text = f"data set {training.dataset}"
    text += f" ({training.train_limit:,} images)" if training.train_limit else ""
    text += f" at {training.image_size} px" if training.image_size else ""
    return f"{text}, model {training.model}"


def _listed(parts: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def _environments(table: PaperTable) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(table.environments)


def _source(line: Published) -> str:
    return line.source + (f" ({line.evidence})" if line.evidence else "")
