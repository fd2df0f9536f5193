"""Why an average of members falls below them, as far as what was measured tells."""

from __future__ import annotations

from collections.abc import Mapping

# A loss barrier above so many nats is said to part basins.
BASIN = 0.1
# Below this cosine between their weights, members have no more in common than two random starts.
APART = 0.1


def why(measured: Mapping[str, float], margin: float) -> str:
    """What is said of an average more than ``margin`` points below its members' mean, else "".

    Args:
        measured: metrics by key; ``weight_cosine`` may be missing, and NaN stands for unknown.
        margin: points of accuracy.

    Returns:
        One clause, without a capital and a full stop.
    """
    average, members = measured["average_acc"], measured["member_acc_mean"]
    if not average < members - margin:
        return ""
    barrier, mended = measured["barrier_loss_max"], measured["average_bn_acc"]
    cosine = measured.get("weight_cosine", float("nan"))
    text = f"the average has {average:.1f} % and the members {members:.1f} %"
    lagging = mended - average > (measured["member_bn_acc_mean"] - average) / 2
    if lagging:
        text = (
            f"{text}; re-estimating the BatchNorm statistics brings the average to"
            f" {mended:.1f} %, so most of the fall is theirs and not the weights'"
        )
    elif barrier > BASIN:
        text = (
            f"members share no basin: the loss barrier between members is {barrier:.1f} nats,"
            f" so the average has {average:.1f} %"
        )
    if abs(cosine) < APART and (lagging or barrier > BASIN):
        text += (
            f"; the members' weights have a cosine of {abs(cosine):.2f}, as networks that started"
            " apart"
        )
    return text
