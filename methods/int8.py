"""Exchanges of eight bits: any method, what it sends rounded to signed bytes.

Of each member's row, blocks of 128 values share a scale, s = max |w| / 127, and travel as

    q_i = round(w_i / s)  in -127..127,   received as s q_i

with s in float32: 1.03 bytes a value. A mean is an all-gather of these codes, which are averaged
where they arrive; members' own values are coded there too, so that all have the same mean. What
members fetch from one another is coded, BatchNorm statistics, shuffles and broadcasts (a common
start) are not: around WASH nothing changes.

It rounds weights, not their changes, and keeps no error back for the next time, as compressed
DiLoCos do with what members learned since the last outer step. The codes are what really travels,
over torch.distributed too. What is drawn, as SPARTA's coordinates, is not predicted.
"""

from __future__ import annotations

from typing import ClassVar

from wash_bench.core.quantized import Coded


class Int8(Coded):
    """A method whose weights travel in eight bits; it is called NAME+int8."""

    name = "int8"
    rule = "what is averaged or fetched travels in 8 bits, blocks of 128 values with one scale"
    paper = "none: an option of this suite"
    sends = "what the method inside sends, in 1.03 bytes a value"
    when = "a slow link: papa+int8, diloco+int8; shuffles stay as they are"
    needs = "all members' rows in every process, as a mean becomes a gather"
    bits: ClassVar[int] = 8
