"""Top-k exchanges with error feedback (Qsparse-local-SGD, Basu et al. 2019, arXiv 1906.02367).

Around any method that averages whole members. What travels is not a member's weights but where they
differ from what the others know of it, the largest k entries of the difference; what is left out is
kept, and travels another time:

    a_n = x_n - h_n              h_n: the public copy of member n
    c_n = the k entries of a_n with the largest magnitude, 0 elsewhere
    S   = S + 1/N sum c_n        what the method inside is given as the mean

    h_n = h_n + c_n              if members keep their weights (CHOCO-SGD's public copies, Koloskova
                                 et al. 2019, arXiv 1902.00340): S is the mean of the copies
    h_n = y - (a_n - c_n)        if all restart from a point y, and S = y (Algorithm 1 of the first
                                 paper, without its quantizer; a_n - c_n is its memory)

Around ``local-sgd`` (y = S) that is Qsparse-local-SGD with Comp_k = Top_k; around ``diloco`` y is
what the outer step gives. Members that are pulled, as by ``papa``, are pulled to S, where CHOCO-SGD
pulls by S - h_n. At k = d, S is the mean itself.

A code is k indices (int32) and k values (float32), 8 bytes an entry, all-gathered. At the start all
members average once in full, from which S begins. Averages of parts (of ``sparta``,
``streaming-diloco``), of BatchNorm statistics and of optimizer states, rows that members fetch from
one another, shuffles and broadcasts travel as they are: around WASH nothing is saved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from wash_bench.core.ledger import CommEvent, Content, charge_gather, charge_mean
from wash_bench.core.method import CommShape, MethodOptions, NotPredicted, Rows, option
from wash_bench.core.quantized import DelegatingExchange
from wash_bench.core.step_info import StepInfo
from wash_bench.core.wrapper import Wrapper

if TYPE_CHECKING:
    from torch import Tensor

    from wash_bench.core.exchange import Exchange
    from wash_bench.core.method import Method
    from wash_bench.core.population import Population

ENTRY = 8  # bytes of an index and a value


class TopKOptions(MethodOptions):
    """Settings of top-k exchanges."""

    share: float = option(
        0.01,
        "k/d, the share of a member's coordinates that travels",
        unverified="the paper leaves k to the operator and this suite has not tuned it",
        gt=0,
        le=1,
    )

    def kept(self, size: int) -> int:
        """k, of ``size`` coordinates."""
        return max(1, round(self.share * size))


class TopK(Wrapper):
    """A method whose members send the largest changes of their weights; it is NAME+topk."""

    name = "topk"
    kind = "exchange"
    rule = "S <- S + mean of top-k(member - what is known of it) stands for the mean"
    paper = "Basu et al. 2019, arXiv 1906.02367; Koloskova et al. 2019, arXiv 1902.00340"
    sends = "k values and their indices in place of each average of whole members"
    when = "a slow link and rare averages: local-sgd+topk, papa+topk; shuffles stay as they are"
    needs = "one more vector a member, the running mean in every process; share tuned"
    Options = TopKOptions
    options: TopKOptions

    def __init__(self, options: MethodOptions | None = None, inner: Method | None = None) -> None:
        super().__init__(options, inner)
        self._mean: dict[str, Tensor] = {}

    def own_slots(self) -> Mapping[str, Rows]:
        return {"topk": "weights"}  # h_n

    def start(self, population: Population, exchange: Exchange) -> None:
        super().start(population, exchange)
        self.follow(population)
        self._mean["topk mean"] = exchange.mean(population.weights)

    def after_step(self, population: Population, exchange: Exchange, clock: StepInfo) -> None:
        copies, common = population.member_state["topk"], self._mean["topk mean"]
        through = TopKExchange(exchange, self.options, copies, common)
        super().after_step(population, through, clock)
        if through.left_out is not None:
            kept = population.weights if self._restarted(population, through) else through.rows
            population.member_state["topk"].copy_(kept - through.left_out)

    def _restarted(self, population: Population, through: TopKExchange) -> bool:
        """Whether all members go on from one point, which S then is: S itself, or an outer step."""
        if self.restarts:
            through.common.copy_(population.weights[0])
            return True
        return bool((population.weights == through.common).all())

    def charges(self, site: CommShape, clock: StepInfo) -> Sequence[CommEvent]:
        found = [self._coded(charge, site) for charge in super().charges(site, clock)]
        return [charge_mean(site.n, site.layout.size), *found] if clock.step == 0 else found

    def _coded(self, charge: CommEvent, site: CommShape) -> CommEvent:
        if (charge.kind, charge.content) != ("mean", "weights"):
            return charge
        if charge.variance:  # whole means now and then, or parts each time
            raise NotPredicted
        if charge.values < site.n * site.layout.size:
            return charge
        kept = self.options.kept(site.layout.size)
        return charge_gather(site.n, ENTRY * kept, charge.content, 1, kept)

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | self._mean

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        own = {name: tensor for name, tensor in state.items() if name == "topk mean"}
        self._mean = own
        super().load_state_dict({key: v for key, v in state.items() if key not in own})


class TopKExchange(DelegatingExchange):
    """An exchange of one step that sends a mean of whole members' weights as top-k codes.

    Args:
        inner: what sends the codes.
        options: how many entries.
        copies: (M, D) h_n of this process's members.
        common: (D,) S, which is changed.

    Attributes:
        rows: (M, D) x_n at the mean, once there was one, else None.
        left_out: (M, D) a_n - c_n likewise.
    """

    def __init__(
        self, inner: Exchange, options: TopKOptions, copies: Tensor, common: Tensor
    ) -> None:
        super().__init__(inner)
        self._options, self._copies, self.common = options, copies, common
        self.rows: Tensor | None = None
        self.left_out: Tensor | None = None

    def mean(self, rows: Tensor, content: Content = "weights") -> Tensor:
        """S (D,) in place of the mean of whole rows (N, D) of weights; else the mean itself."""
        if content != "weights" or rows.shape != self._copies.shape or self.rows is not None:
            return super().mean(rows, content)
        kept = self._options.kept(rows.shape[1])
        self.rows = rows.clone()
        self.left_out = rows - self._copies
        sent = largest(self.left_out, kept)
        for code in self.gather(encode(self.left_out, sent), content, kept):
            indices, values = decode(code)
            self.common.index_add_(0, indices, values / self.n)
        self.left_out.scatter_(1, sent, 0.0)
        return self.common.clone()


def largest(rows: Tensor, kept: int) -> Tensor:
    """(M, k) indices of the entries of rows (M, D) with the largest magnitude, in rising order."""
    return rows.abs().topk(kept, dim=1, sorted=False).indices.sort(dim=1).values


def encode(rows: Tensor, indices: Tensor) -> Tensor:
    """(M, 8 k) uint8: of each row (M, D), k indices (M, k) as int32, their values as float32."""
    import torch

    parts = (indices.to(torch.int32), rows.gather(1, indices).float())
    return torch.cat([part.contiguous().view(torch.uint8) for part in parts], dim=1)


def decode(code: Tensor) -> tuple[Tensor, Tensor]:
    """Indices (k,) int64 and values (k,) float32 of one row's code (8 k,)."""
    import torch

    half = len(code) // 2
    indices, values = (part.clone() for part in (code[:half], code[half:]))
    return indices.view(torch.int32).long(), values.view(torch.float32)
