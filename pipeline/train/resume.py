"""Where a run begins: at a checkpoint that agrees with the config, or at step 0.

found = find_start(config, machine, store); announce_start(found, config, machine)
"""

import logging
from collections.abc import Mapping
from typing import Any

from pipeline.train.checkpoint import CheckpointStore, Found
from pipeline.train.config import RunConfig
from pipeline.train.contradictions import contradictions, reported_changes
from pipeline.train.machine import Machine
from pipeline.train.provenance import settings_to_keep
from pipeline.train.split import split_dependence
from shards.errors import CheckpointError, RunError

__all__ = ["announce_start", "check_order", "find_start", "meet_mirror", "recorded_threads", "require_same_settings"]

logger = logging.getLogger("depthrank")


def find_start(config: RunConfig, machine: Machine, store: CheckpointStore) -> Found | None:
    """The checkpoint that this run continues, on all processes alike; None for a new run.

    Raises:
        CheckpointError: None verifies, or the config contradicts it.
        RunError: The config says not to continue a run that has checkpoints.
    """
    found = machine.on_main(store.find)
    if found is None:
        return None
    require_same_settings(found.state, str(found.path), config)
    return found


def meet_mirror(config: RunConfig, machine: Machine, store: CheckpointStore) -> None:
    """Fetch what the mirror has newer, after a look at its settings: those of another run stay where they are.

    Raises:
        RunError: The mirror holds another run of this name.
        CheckpointError: There is nothing to continue, and the mirror cannot be read.
    """

    def accept(state: Mapping[str, Any], place: str) -> None:
        try:
            require_same_settings(state, place, config)
        except CheckpointError as error:
            raise RunError(f"the mirror has another run of this name: {error}; or choose another mirror") from error

    machine.on_main(lambda: store.meet_mirror(accept))


def require_same_settings(state: Mapping[str, Any], place: str, config: RunConfig) -> None:
    """Compare the settings of a checkpoint with those of now.

    Raises:
        CheckpointError: Names those that differ and may not, each with both values.
    """
    before = state.get("config")
    if not isinstance(before, dict):
        raise CheckpointError(f"{place}: the state tells no settings")
    differences = contradictions(before, config.model_dump(mode="json"))
    if differences:
        raise CheckpointError(
            f"{place} was trained with other settings:\n"
            + "\n".join(f"  {line}" for line in differences)
            + "\nset them back, or choose another `run` (with checkpoint.init_from it starts from these weights)"
        )


def announce_start(found: Found, config: RunConfig, machine: Machine) -> None:
    """Say where the run goes on, which checkpoints were refused and why, and what has changed since."""
    for _, why in found.refused:
        logger.warning("checkpoint refused: %s", why)
    logger.info("resumes from %s: %d samples seen", found.path, found.state["samples_seen"])
    if config.checkpoint.init_from:
        logger.info("checkpoint.init_from is ignored: the run goes on from its own checkpoint")
    for line in reported_changes(found.state["config"], settings_to_keep(config)):
        logger.info("%s", line)
    now = {"world_size": machine.world_size, "device": machine.device.type}
    moved = [f"{name} {found.state[name]} -> {value}" for name, value in now.items() if found.state[name] != value]
    if moved:
        logger.info("changed since the checkpoint (results agree within rounding): %s", "; ".join(moved))
    micro_batch = found.state["config"]["train"]["micro_batch_size"]
    if (found.state["world_size"], micro_batch) != (machine.world_size, config.train.micro_batch_size):
        for line in split_dependence(config):
            logger.info("except that %s", line)


def check_order(found: Found, order: Mapping[str, Any]) -> None:
    """Refuse a stream whose samples would come in another order than before.

    Raises:
        CheckpointError: Names what differs: the dataset, its length or what shuffles it.
    """
    before: Mapping[str, Any] = found.state["order"]
    lines = [
        f"  {name}: {before.get(name)!r} in the checkpoint, {order.get(name)!r} now"
        for name in sorted(before.keys() | order.keys())
        if before.get(name) != order.get(name)
    ]
    if lines:
        raise CheckpointError(
            f"{found.path} was trained on another stream of samples:\n"
            + "\n".join(lines)
            + "\ngive it the dataset it was trained on, or choose another `run`"
        )


def recorded_threads(found: Found | None, machine: Machine) -> int | None:
    """CPU threads to go on with for the same results bit for bit; None where another world size rules that out."""
    if found is None or found.state["world_size"] != machine.world_size:
        return None
    return int(found.state["threads"])
