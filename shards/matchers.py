"""The matchers: two aligned pictures to flow both ways, by name.

`fusion` lets DIS flow start from semi-global matching: the one finds its way through repetition and bare walls, the
other measures to a fraction of a pixel and follows what vertical motion is left.

    flows = FLOWS["fusion"](left, right, MatchConfig())
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shards.config import MatchConfig
from shards.errors import ConfigError
from shards.flow import consistent, flow_both_ways, grey
from shards.sgbm import match_rows

__all__ = ["FLOWS", "Flows"]

Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]

_PATCH_PX = 6
_RANGE_MARGIN = 0.15
_RANGE_MARGIN_PX = 4.0
_NOWHERE_PX = np.float32(1e5)


@dataclass(frozen=True)
class Flows:
    """What a matcher found.

    Args:
        forward: float32 (H, W, 2), flow x, y from left to right, in pixels.
        backward: float32 (H, W, 2), flow from right to left.
        second: Horizontal flow of another matcher, both ways, float32 (H, W) each, NaN where it found none.
    """

    forward: Floats
    backward: Floats
    second: tuple[Floats, Floats] | None = None


def _dis(left: Picture, right: Picture, config: MatchConfig) -> Flows:
    return Flows(*flow_both_ways(grey(left), grey(right), finest_scale=0, patch_px=_PATCH_PX))


def _sgbm(left: Picture, right: Picture, config: MatchConfig) -> Flows:
    of_left, of_right, _ = _by_rows(grey(left), grey(right))
    forward, backward = (
        _as_flow(np.where(np.isnan(side), _NOWHERE_PX, side).astype(np.float32)) for side in (-of_left, of_right)
    )
    return Flows(forward, backward)


def _fusion(left: Picture, right: Picture, config: MatchConfig) -> Flows:
    greys = grey(left), grey(right)
    of_left, of_right, rough = _by_rows(*greys)
    enough = np.isfinite(of_left).mean() > 0.3 and np.isfinite(of_right).mean() > 0.3
    start = (_as_flow(-_filled(of_left)), _as_flow(_filled(of_right))) if enough else rough
    return Flows(*flow_both_ways(*greys, finest_scale=0, patch_px=_PATCH_PX, start=start), second=(-of_left, of_right))


def _by_rows(left: Picture, right: Picture) -> tuple[Floats, Floats, tuple[Floats, Floats]]:
    """Semi-global matching in the range that a rough flow finds; and that flow."""
    rough = flow_both_ways(left, right, finest_scale=1)
    known = consistent(*rough, tolerance_px=1.0)
    found = -rough[0][..., 0][known]
    low, high = np.percentile(found, (0.5, 99.5)) if found.size else (0.0, 0.0)
    margin = _RANGE_MARGIN * (high - low) + _RANGE_MARGIN_PX
    width = left.shape[1]
    of_left, of_right = match_rows(left, right, max(low - margin, -width / 2), min(high + margin, width / 2))
    return of_left, of_right, rough


def _as_flow(horizontal: Floats) -> Floats:
    return np.stack([horizontal, np.zeros_like(horizontal)], axis=-1)


def _filled(disparity: Floats) -> Floats:
    """Gaps of each row take the farther of their two sides, as what one eye does not see is behind."""
    width = disparity.shape[1]
    known, column = np.isfinite(disparity), np.arange(width)
    before = np.maximum.accumulate(np.where(known, column, -1), axis=1)
    after = np.minimum.accumulate(np.where(known, column, width)[:, ::-1], axis=1)[:, ::-1]
    padded = np.concatenate([disparity, np.full_like(disparity[:, :1], np.inf)], axis=1)  # index -1 and width: nothing
    sides = np.minimum(np.take_along_axis(padded, before, axis=1), np.take_along_axis(padded, after, axis=1))
    rest = np.float32(np.median(disparity[known])) if known.any() else np.float32(0)
    return np.where(known, disparity, np.where(np.isfinite(sides), sides, rest)).astype(np.float32)


def _raft(left: Picture, right: Picture, config: MatchConfig) -> Flows:
    from shards.raft import raft_flow  # torch is loaded only where it is used

    if config.raft_weights is None:
        raise ConfigError("shards.match.method is raft: set shards.match.raft_weights to its weights, a local file")
    return Flows(*raft_flow(left, right, config.raft_weights))


FLOWS: dict[str, Callable[[Picture, Picture, MatchConfig], Flows]] = {
    "fusion": _fusion,
    "dis": _dis,
    "sgbm": _sgbm,
    "raft": _raft,
}
