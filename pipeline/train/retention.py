"""Which checkpoints a run keeps: one pure function of the steps that are there.

for step in steps_to_delete(on_disk, valid, published, config): ...
"""

from collections.abc import Iterable, Mapping

from pipeline.train.config import CheckpointConfig

__all__ = ["steps_to_delete"]

MIN_VALID = 2


def steps_to_delete(
    on_disk: Iterable[int], valid: Mapping[int, float | None], published: int, config: CheckpointConfig
) -> list[int]:
    """Steps whose checkpoints may go, after that of step `published` was written.

    Kept are the newest `keep_last` that verify, the multiples of `keep_every_steps`, and the best by its figure (the
    newest of equals). Steps after `published` are another course of the same run, begun before it was resumed from an
    older one; they are left alone. Nothing goes while fewer than two verify.

    Args:
        on_disk: steps of all checkpoints in the run folder.
        valid: those that verify, with their validation figure (lower is better) or None.
        published: step that was just saved.
        config: the rule.
    """
    past = sorted((step for step in valid if step <= published), reverse=True)
    if len(past) < MIN_VALID:
        return []
    keep = set(past[: max(config.keep_last, MIN_VALID)])
    if config.keep_every_steps:
        keep.update(step for step in past if step % config.keep_every_steps == 0)
    figures = {step: figure for step in past if (figure := valid[step]) is not None}
    if figures:
        keep.add(min(figures, key=lambda step: (figures[step], -step)))
    return sorted(step for step in set(on_disk) if step <= published and step not in keep)
