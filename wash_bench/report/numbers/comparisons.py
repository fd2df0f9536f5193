"""Comparisons between many rows of a table: by a two-way fit over rows and seeds, adjusted.

Rows at one seed share initial weights, data order and augmentation. A seed is therefore a block:
value = row + seed + error, least squares, and the variance of the errors, pooled over all rows,
serves every comparison. Rows whose network collapsed, and rows of fewer than three seeds, are left
out of the fit.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from wash_bench.metrics import LEADING, METRICS
from wash_bench.report.numbers.stats import ENOUGH, LEVEL, by_seed, estimate, paired

if TYPE_CHECKING:
    from wash_bench.report.read.frames import Records

MANY = 10.0
"""A network whose NLL is this many times the rows' median counts as collapsed."""
DRAWS = 2000
"""Draws of the bootstrap."""
COLUMNS = (
    *("row", "baseline", "metric", "difference", "low", "high", "p", "p_adjusted", "adjustment"),
    *("equivalent", "bootstrap_low", "bootstrap_high"),
)
_LEAST = 1e-9  # differences below are of rounding

Values = Mapping[str, Mapping[int, float]]
"""By row, the value at each seed."""


class TwoWay:
    """The least-squares fit value = row + seed + error, by statsmodels.

    Args:
        values: finite values of rows with three seeds or more; every row shares seeds with
            others, directly or through them.
    """

    def __init__(self, values: Values) -> None:
        from statsmodels.regression.linear_model import OLS

        cells = pd.DataFrame(
            [(row, seed, value) for row, own in values.items() for seed, value in own.items()],
            columns=["row", "seed", "value"],
        )
        self.rows = list(values)
        of_rows = pd.get_dummies(cells["row"], dtype=float)[self.rows]
        of_seeds = pd.get_dummies(cells["seed"], dtype=float).iloc[:, 1:]
        self._places = {row: place for place, row in enumerate(self.rows)}
        self._width = len(self.rows) + of_seeds.shape[1]
        self._fit = OLS(cells["value"].to_numpy(), np.hstack([of_rows, of_seeds])).fit()
        self.freedom = int(self._fit.df_resid)
        self.means = {row: float(self._fit.params[place]) for row, place in self._places.items()}

    def contrasts(self, pairs: Sequence[tuple[str, str]]) -> Contrasts:
        """Estimate the differences, first row minus second."""
        matrix = np.zeros((len(pairs), self._width))
        for line, (one, other) in enumerate(pairs):
            matrix[line, self._places[one]] += 1
            matrix[line, self._places[other]] -= 1
        covariance = self._fit.cov_params(r_matrix=matrix)
        difference = matrix @ self._fit.params
        difference = np.where(abs(difference) < _LEAST, 0.0, difference)
        error = np.maximum(np.sqrt(np.diag(covariance)), _LEAST / 1000)
        return Contrasts(difference, error, covariance, self.freedom)


@dataclass(frozen=True)
class Contrasts:
    """Differences (P,), their standard errors (P,) and covariance (P, P), degrees of freedom."""

    difference: np.ndarray
    error: np.ndarray
    covariance: np.ndarray
    freedom: int

    @property
    def t(self) -> np.ndarray:
        """Student's statistic of each."""
        return self.difference / self.error

    @property
    def p(self) -> np.ndarray:
        """Two-sided p values, not adjusted."""
        from scipy.stats import t

        return 2 * t.sf(abs(self.t), self.freedom)

    def dunnett(self) -> tuple[np.ndarray, float]:
        """Adjust for several comparisons with one baseline (Dunnett 1955).

        Returns:
            The p values that no comparison is as extreme, from the multivariate t, and the number
            of standard errors that half a simultaneous 95 % interval has.
        """
        from scipy.optimize import brentq
        from scipy.stats import multivariate_t, t

        size = len(self.t)
        scale = np.outer(self.error, self.error)
        correlation = self.covariance / scale
        np.fill_diagonal(correlation, 1.0)
        joint = multivariate_t(shape=correlation, df=self.freedom, allow_singular=True)

        @cache
        def beyond(bound: float) -> float:
            """The probability that some |t| is greater; of one comparison, without simulation."""
            if size == 1:
                return float(2 * t.sf(bound, self.freedom))
            ends = np.full(size, min(bound, 1e3))
            inside = joint.cdf(ends, lower_limit=-ends, random_state=0)
            return float(np.clip(1 - inside, 2 * t.sf(bound, self.freedom), 1))

        widest = float(t.isf((1 - LEVEL) / 2 / size, self.freedom))  # Bonferroni's
        narrowest = float(t.isf((1 - LEVEL) / 2, self.freedom))
        critical = widest
        if beyond(narrowest) > 1 - LEVEL > beyond(widest):
            critical = brentq(lambda at: beyond(at) - (1 - LEVEL), narrowest, widest, xtol=1e-3)
        return np.array([beyond(float(at)) for at in abs(self.t)]), float(critical)

    def equivalent(self, margin: float) -> np.ndarray:
        """Test by two one-sided t tests at 5 % whether each difference lies within the margin."""
        from scipy.stats import t

        above = t.sf((self.difference + margin) / self.error, self.freedom)
        below = t.cdf((self.difference - margin) / self.error, self.freedom)
        return np.maximum(above, below) < 1 - LEVEL


def fit(values: Values, leave_out: Iterable[str] = ()) -> TwoWay | None:
    """Fit the cells that share seeds.

    Args:
        values: by row, the value at each seed; what is not finite is left out.
        leave_out: rows that are none of the fit's, as collapsed ones.

    Returns:
        The fit; None where fewer than two rows share three seeds.
    """
    import networkx as nx

    remaining = {row: own for row, own in values.items() if row not in set(leave_out)}
    cells = pd.DataFrame(remaining, dtype=float).replace([math.inf, -math.inf], math.nan)
    while True:
        known = cells.notna()
        remaining = cells.loc[known.sum(axis=1) >= 2, known.sum() >= ENOUGH]
        if remaining.shape == cells.shape:
            break
        cells = remaining
    if cells.shape[1] < 2:
        return None
    graph = nx.Graph((row, (seed,)) for row in cells for seed in cells.index[cells[row].notna()])
    together = max(nx.connected_components(graph), key=len)
    rows = [row for row in cells if row in together]
    if len(rows) < 2:
        return None
    known = {row: cells[row].dropna() for row in rows}
    return TwoWay({str(row): dict(zip(v.index, v, strict=True)) for row, v in known.items()})


def letters(
    values: Values,
    better: Literal["higher", "lower"],
    leave_out: Iterable[str] = (),
    by: Literal["tukey", "holm"] = "tukey",
) -> dict[str, str]:
    """Compact letters: rows that share one are not significantly different at 95 %.

    Args:
        values: by row, the value at each seed.
        better: which values are better; the best row has the letter a.
        leave_out: rows that are compared with none.
        by: Tukey's studentized range over all pairs (Tukey-Kramer where rows have unequal
            seeds), or Holm's adjustment of the pairs' t tests.

    Returns:
        The letters of each row of the fit; nothing where there is no fit, or more groups than
        letters.
    """
    found = fit(values, leave_out)
    if found is None:
        return {}
    import networkx as nx

    sign = 1 if better == "lower" else -1
    order = sorted(found.rows, key=lambda row: sign * found.means[row])
    place = {row: at for at, row in enumerate(order)}
    pairs = list(combinations(order, 2))
    contrasts = found.contrasts(pairs)
    if by == "tukey":
        different = abs(contrasts.t) * math.sqrt(2) > _range(len(order), found.freedom)
    else:
        from statsmodels.stats.multitest import multipletests

        different = multipletests(contrasts.p, 1 - LEVEL, method="holm")[0]
    graph = nx.Graph()
    graph.add_nodes_from(order)
    graph.add_edges_from(pair for pair, apart in zip(pairs, different, strict=True) if not apart)
    # The largest sets of rows without a significant difference: a letter each.
    groups = sorted(sorted(map(place.__getitem__, group)) for group in nx.find_cliques(graph))
    if len(groups) > len(string.ascii_letters):
        return {}
    named = list(zip(string.ascii_letters, groups, strict=False))
    return {row: "".join(letter for letter, group in named if place[row] in group) for row in order}


@cache
def _range(rows: int, freedom: int) -> float:
    """The critical value of the studentized range at 95 %."""
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(LEVEL, rows, freedom))


def against(
    values: Values, baseline: str, leave_out: Iterable[str] = (), margin: float | None = None
) -> pd.DataFrame:
    """Compare every row with a baseline.

    Where rows share seeds with the baseline, by the two-way fit and the multivariate t; where none
    does, by Dunnett's test of independent samples. Rows of fewer than three seeds, and those that
    are left out, have their difference alone.

    Args:
        values: by row, the value at each seed.
        baseline: the row that all others are compared with.
        leave_out: rows that are none of the fit's.
        margin: of equivalence, in the values' unit.

    Returns:
        A row each other row, indexed by it: difference (row minus baseline), low and high of the
        simultaneous 95 % interval, p, p_adjusted, adjustment, equivalent (None without a margin).
    """
    base = values[baseline]
    rows = {}
    for row in values:
        if row != baseline and values[row]:
            both = paired(values[row], base)
            apart = estimate(values[row].values()).mean - estimate(base.values()).mean
            rows[row] = {"difference": both.mean if both.n else apart}
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["difference"])
    frame = frame.reindex(columns=list(COLUMNS[3:10])).astype({"adjustment": object})
    frame["equivalent"] = None
    found = fit(values, leave_out)
    if found is not None and baseline in found.rows:
        others = [row for row in found.rows if row != baseline]
        contrasts = found.contrasts([(row, baseline) for row in others])
        adjusted, critical = contrasts.dunnett()
        frame.loc[others, "difference"] = contrasts.difference
        frame.loc[others, "low"] = contrasts.difference - critical * contrasts.error
        frame.loc[others, "high"] = contrasts.difference + critical * contrasts.error
        frame.loc[others, "p"] = contrasts.p
        frame.loc[others, "p_adjusted"] = adjusted
        frame.loc[others, "adjustment"] = "Dunnett, blocks by seed"
        if margin is not None:
            frame.loc[others, "equivalent"] = contrasts.equivalent(margin).tolist()
        return frame
    samples = {row: [v for v in own.values() if math.isfinite(v)] for row, own in values.items()}
    others = [row for row in rows if not set(values[row]) & set(base)]
    others = [row for row in others if row not in set(leave_out) and len(samples[row]) >= ENOUGH]
    if others and len(samples[baseline]) >= ENOUGH:
        from scipy.stats import dunnett, ttest_ind

        test = dunnett(*(samples[row] for row in others), control=samples[baseline])
        interval = test.confidence_interval(LEVEL)
        frame.loc[others, "low"], frame.loc[others, "high"] = interval.low, interval.high
        frame.loc[others, "p"] = [
            ttest_ind(samples[row], samples[baseline]).pvalue for row in others
        ]
        frame.loc[others, "p_adjusted"] = test.pvalue
        frame.loc[others, "adjustment"] = "Dunnett"
    return frame


def crossed_bootstrap(
    a: Mapping[int, np.ndarray], b: Mapping[int, np.ndarray], draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """Bootstrap the mean difference a - b over seeds and test images at once.

    Every draw takes seeds and, independently, images with replacement (the pigeonhole bootstrap
    of Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1).

    Args:
        a: by seed, scores of each image, (images, scores).
        b: the same of the other row, of the same images.
        draws: how many.
        seed: of the draws.

    Returns:
        The ends of the 95 % percentile interval, (2, scores).
    """
    differences = np.stack([a[at] - b[at] for at in sorted(a.keys() & b.keys())])
    seeds, images, scores = differences.shape
    by_image = np.ascontiguousarray(differences.transpose(0, 2, 1)).reshape(-1, images)
    generator = np.random.default_rng(seed)
    found = np.empty((draws, scores))
    for draw in range(draws):
        of_seeds = np.bincount(generator.integers(seeds, size=seeds), minlength=seeds)
        of_images = np.bincount(generator.integers(images, size=images), minlength=images)
        totals = (by_image @ of_images.astype(by_image.dtype)).reshape(seeds, scores)
        found[draw] = of_seeds @ totals / (seeds * images)
    tail = (1 - LEVEL) / 2
    return np.quantile(found, [tail, 1 - tail], axis=0)


def collapsed(
    accuracy: Mapping[str, float], members: Mapping[str, float], nll: Mapping[str, float]
) -> list[str]:
    """Return the rows whose delivered network collapsed.

    Args:
        accuracy: by row, of the delivered network, mean over seeds, in per cent.
        members: by row, the members' mean accuracy.
        nll: by row, of the delivered network; may lack rows.

    Returns:
        Rows with an accuracy below half of their members', or an NLL above ``MANY`` times the
        median of all rows.
    """
    known = [value for value in nll.values() if math.isfinite(value)]
    most = MANY * float(np.median(known)) if known else math.inf
    return [
        row
        for row, value in accuracy.items()
        if value < members.get(row, math.nan) / 2 or nll.get(row, math.nan) > most
    ]


@dataclass(frozen=True)
class Comparisons:
    """The comparisons between the rows of one experiment's table.

    Attributes:
        baseline: the row that the others are compared with; empty without one.
        letters: by metric of ``LEADING``, the letters of each row.
        against: the rows of comparisons.csv, with the columns ``COLUMNS``.
        collapsed: rows that are left out of the fit.
    """

    baseline: str
    letters: dict[str, dict[str, str]] = field(default_factory=dict)
    against: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(COLUMNS)))
    collapsed: list[str] = field(default_factory=list)

    def verdicts(self, metric: str) -> dict[str, bool]:
        """Of each row that was tested, whether it is significantly different from the baseline."""
        rows = self.against[self.against["metric"] == metric].dropna(subset=["p_adjusted"])
        return dict(zip(rows["row"], rows["p_adjusted"] < 1 - LEVEL, strict=True))

    def equivalent(self) -> list[str]:
        """The rows whose accuracy is equivalent to the baseline's."""
        return self.against.loc[self.against["equivalent"].eq(True), "row"].tolist()


def compare_rows(
    records: Records, experiment_id: str, finished: pd.DataFrame, baseline: str
) -> Comparisons:
    """Compare the delivered networks of an experiment's rows; made once for equal questions."""
    key = ("comparisons", experiment_id, baseline, records.options.margin)
    if key not in records.computed:
        records.computed[key] = _compare_rows(records, finished, baseline)
    return records.computed[key]


def _compare_rows(records: Records, finished: pd.DataFrame, baseline: str) -> Comparisons:
    groups = {str(name): rows for name, rows in finished.groupby("variant", sort=False)}
    means = {
        key: {row: estimate(by_seed(cells, key).values()).mean for row, cells in groups.items()}
        for key in ("method_acc", "member_acc_mean", "method_nll")
    }
    fallen = collapsed(*means.values())
    marks, tables = {}, []
    for metric in LEADING:
        values = {row: by_seed(cells, metric) for row, cells in groups.items()}
        if not any(values.values()):
            continue
        marks[metric] = letters(values, METRICS[metric].better or "higher", fallen)
        if baseline and values[baseline]:
            margin = records.options.margin if metric == "method_acc" else None
            table = against(values, baseline, fallen, margin)
            tables.append(table.rename_axis("row").reset_index().assign(metric=metric))
    if not tables:
        return Comparisons(baseline, marks, collapsed=fallen)
    frame = pd.concat(tables, ignore_index=True).assign(baseline=baseline)
    frame = frame.reindex(columns=list(COLUMNS))
    return Comparisons(baseline, marks, _with_bootstrap(records, groups, frame), fallen)


def _with_bootstrap(
    records: Records, groups: Mapping[str, pd.DataFrame], frame: pd.DataFrame
) -> pd.DataFrame:
    """The comparisons with bootstrap intervals of accuracy and NLL, where outcomes were kept."""
    if frame.empty:
        return frame
    base = _outcomes(records, groups[frame["baseline"].iloc[0]])
    for row in frame["row"].unique() if base else ():
        own = _outcomes(records, groups[row])
        shapes = {images.shape for images in (*base.values(), *own.values())}
        if len(own.keys() & base.keys()) >= ENOUGH and len(shapes) == 1:
            ends = crossed_bootstrap(own, base)
            for place, metric in enumerate(("method_acc", "method_nll")):
                at = (frame["row"] == row) & (frame["metric"] == metric)
                frame.loc[at, ["bootstrap_low", "bootstrap_high"]] = ends[:, place]
    return frame


def _outcomes(records: Records, cells: pd.DataFrame) -> dict[int, np.ndarray]:
    """By seed, accuracy in per cent and NLL of the delivered network at each image, (images, 2)."""
    found = {}
    for seed, cell_id in zip(cells["seed"], cells["cell_id"], strict=True):
        if (read := records.outcomes(cell_id)) is not None:
            found[int(seed)] = read
    return found
