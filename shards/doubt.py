"""How near a pair came to the other verdict: what a person should look at first.

Each rule gives a closeness in 0..1, and 1 means on the threshold. An accepted pair is as doubtful as its closest rule;
a rejected one as the rule that rejected it, so that what failed by a hair stands beside what passed by a hair:

    known      accepted: (1 - share) / (1 - min_known_share)        `inconsistent`:    share / min_known_share
    agreement  accepted: (1 - share) / (1 - min_agreement)          `contradicted`:    share / min_agreement
    layers     accepted: share / max_layer_share                    `cut_outs`:        max_layer_share / share
    vertical   accepted: share / max_vertical_share                 `vertical_motion`: max_vertical_share / share
    range      accepted: min_range_share / share                    `flat`:            share / min_range_share
    eyes       accepted: 2.2 / |z| of an automatic decision         `eyes_undecided`:  1

A reject without such a figure (`too_small`, `unreadable`, ...) is not in doubt: 0.

Usage:

    doubt = doubt_of(reason, figures, QualityConfig().model_dump())     # doubt.score, doubt.why
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Doubt", "doubt_of"]

EYES_Z = 2.2
"""|z| at which the eyes are decided (`shards.eyes`)."""


class Doubt(NamedTuple):
    """How doubtful a verdict is, and by which rule."""

    score: float
    """0 clear, 1 on the threshold."""
    why: str
    """`known`, `agreement`, `layers`, `vertical`, `range`, `eyes`, or nothing where there is no figure."""


def doubt_of(reason: str | None, figures: Mapping[str, Any], thresholds: Mapping[str, Any]) -> Doubt:
    """The doubt in one verdict.

    Args:
        reason: Why the pair was rejected; None for an accepted one.
        figures: Of the record; a figure that is missing or no number counts for nothing.
        thresholds: `QualityConfig` as a mapping, or what the manifest says of it.
    """
    known = _number(figures.get("consistent_share", figures.get("known_share")))
    agreement, layers, vertical, wide, z = (
        _number(figures.get(name)) for name in ("agreement", "layer_share", "vertical_share", "range_share", "eyes_z")
    )
    least_known, least_agreement, most_layers, most_vertical, least_wide = (
        _number(thresholds.get(name))
        for name in ("min_known_share", "min_agreement", "max_layer_share", "max_vertical_share", "min_range_share")
    )
    if reason is None:
        found: dict[str, float | None] = {
            "eyes": _closeness(EYES_Z, None if z is None else abs(z)),
            "known": _closeness(_rest(known), _rest(least_known)),
            "agreement": _closeness(_rest(agreement), _rest(least_agreement)),
            "layers": _closeness(layers, most_layers),
            "vertical": _closeness(vertical, most_vertical),
            "range": _closeness(least_wide, wide),
        }
    else:
        rules: dict[str, dict[str, float | None]] = {
            "inconsistent": {"known": _closeness(known, least_known)},
            "contradicted": {"agreement": _closeness(agreement, least_agreement)},
            "cut_outs": {"layers": _closeness(most_layers, layers)},
            "vertical_motion": {"vertical": _closeness(most_vertical, vertical)},
            "flat": {"range": _closeness(wide, least_wide)},
            "eyes_undecided": {"eyes": 1.0},
        }
        found = rules.get(reason, {})
    scored = [(score, why) for why, score in found.items() if score is not None]
    return Doubt(*max(scored, key=lambda entry: entry[0])) if scored else Doubt(0.0, "")


def _closeness(value: float | None, limit: float | None) -> float | None:
    """Value / limit, at most 1; None where either is unknown."""
    if value is None or limit is None:
        return None
    return min(max(value, 0.0) / limit, 1.0) if limit > 0 else 1.0


def _rest(share: float | None) -> float | None:
    return None if share is None else 1 - share


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e300 < value < 1e300:
        return None
    return float(value)
