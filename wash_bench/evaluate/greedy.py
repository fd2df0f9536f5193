"""The greedy choice of a soup's members (Wortsman et al. 2022, arXiv 2203.05482, section 2)."""

import math
from collections.abc import Callable, Sequence


def greedy_choice(accuracies: Sequence[float], evaluate: Callable[[list[int]], float]) -> list[int]:
    """Choose the members of the greedy soup.

    The running mixture with weights k/(k+1) and 1/(k+1) is the uniform average of the chosen
    members, hence ``evaluate`` is asked about lists of members.

    Args:
        accuracies: held-out accuracy of each member by itself, in per cent; NaN of one whose
            outputs are not numbers, which no soup takes.
        evaluate: held-out accuracy of the uniform average of the listed members; NaN where that
            average's outputs are not numbers, which leaves the last of the list out.

    Returns:
        Indices of the members, in the order in which they were accepted; never empty.

    Raises:
        ValueError: if there is no member with an accuracy.
    """
    sound = [member for member, value in enumerate(accuracies) if not math.isnan(value)]
    if not sound:
        raise ValueError("a soup needs at least one member whose outputs are numbers")
    first, *others = sorted(sound, key=lambda member: -accuracies[member])
    soup, best = [first], accuracies[first]
    for member in others:
        accuracy = evaluate([*soup, member])
        if accuracy > best:
            soup, best = [*soup, member], accuracy
    return soup
