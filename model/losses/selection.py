"""Order statistics of the rows of a matrix in which only some entries take part, without sorting whole rows.

The rank may differ from row to row, and reading it would make the host wait for a GPU. So the largest rank possible is
taken from the shape and that many extremes of each row are found (`topk`); the row's own rank picks one of them.

    factor = share_of_largest(loss.detach(), candidate, 0.75)
"""

import math

from torch import Tensor

__all__ = ["kept_count", "nth_extreme", "share_of_largest"]

_SLACK = 1e-9  # keeps 0.07 * 100 = 7.000000000000001 from being rounded up to 8


def kept_count(num: Tensor, share: float) -> Tensor:
    """How many of `num` entries a share keeps, rounded up to whole entries: int64 of any shape."""
    return (num.double() * share - _SLACK).ceil().long()


def nth_extreme(values: Tensor, candidate: Tensor, rank: Tensor, highest_rank: int, *, largest: bool) -> Tensor:
    """In each row the candidate of a given rank, (R, 1).

    Args:
        values: (R, N).
        candidate: (R, N) bool.
        rank: (R, 1) int64, 0 is the smallest (largest) candidate; at most `highest_rank` and smaller than N.
        highest_rank: Bound of all ranks, known without reading them.
        largest: Count from the largest instead of the smallest.
    """
    filled = values.masked_fill(~candidate, -math.inf if largest else math.inf)
    extremes, _ = filled.topk(min(highest_rank + 1, values.shape[1]), dim=1, largest=largest)
    return extremes.gather(1, rank)


def share_of_largest(values: Tensor, candidate: Tensor, share: float) -> Tensor:
    """Factor 0..1 of each entry, (R, N): 1 for the share of a row's candidates that is largest, 0 for the others.

    Entries equal to the last one that is kept share what is left between them, so the factors of a row always add up
    to `kept_count` and their choice does not depend on the order of the entries.

    Args:
        values: (R, N) without gradient.
        candidate: (R, N) bool.
        share: 0 < share <= 1.
    """
    num_columns = values.shape[1]
    if share == 1 or not num_columns:
        return candidate.to(values.dtype)
    num = candidate.sum(1, keepdim=True)
    kept = kept_count(num, share)
    # Few are left out as a rule, so the last one that is kept is found sooner from below.
    most_dropped = num_columns - math.ceil(num_columns * share - _SLACK)
    rank = (num - kept).clamp(max=num_columns - 1)
    last = nth_extreme(values, candidate, rank, most_dropped, largest=False)
    above, tied = candidate & (values > last), candidate & (values == last)
    part = (kept - above.sum(1, keepdim=True)).to(values.dtype) / tied.sum(1, keepdim=True).clamp(min=1)
    return tied * part + above
