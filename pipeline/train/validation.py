"""Validation while training: WHDR on the stored pairs of the split `val`, and the grid of fixed pictures.

validation = Validation(config, machine, net)
figures = validation.figures(stop=lambda: False)     # {"val/whdr": 0.21, "val/pairs": 48000}
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import numpy as np
from numpy.typing import NDArray

from model import DepthNet
from pipeline.data.loader import validation_samples
from pipeline.eval.metrics import PairCounts
from pipeline.eval.predict import Predictor
from pipeline.eval.whdr import evaluate_samples
from pipeline.train.config import RunConfig
from pipeline.train.grid import picture_grid, picture_row
from pipeline.train.machine import Machine
from pipeline.train.session import Interrupted
from shards.format import Sample, decode_jpeg

__all__ = ["Validation"]

logger = logging.getLogger("depthrank")


class Validation:
    """Evaluates the network that is being trained, or its moving average, in the precision of the training.

    Leaves its mode and the random generators as they are.
    """

    def __init__(self, config: RunConfig, machine: Machine, net: DepthNet) -> None:
        """Validate `net`, which lies on the machine's device, without wrappers.

        Raises:
            DataError: The validation set cannot be read; better now than after hours of training.
        """
        self._config = config
        self._machine = machine
        self._net = net
        self._predict = Predictor(net, machine.device, size_hw=config.train.size)
        self._fixed: list[Sample] | None = None
        if self.has_data:
            next(self._samples(), None)

    @property
    def has_data(self) -> bool:
        """Whether the config names a validation set."""
        return self._config.data.val is not None

    def figures(
        self, stop: Callable[[], bool], interruptible: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> dict[str, float] | None:
        """WHDR over all processes, exact; each picture is judged by one of them.

        Args:
            stop: Asked before each picture; once it holds on any process, there is no result.
            interruptible: Within, `Interrupted` may be raised, which means the same: a picture may have to be fetched.

        Returns:
            `val/whdr`, 0..1, lower is better, and `val/pairs`, the number of pairs judged; None when it was stopped,
            nothing where the set has no unequal pair.

        Raises:
            DataError: A sample cannot be read.
        """
        stopped = False

        def stop_here() -> bool:
            nonlocal stopped
            stopped = stopped or stop()
            return stopped

        # Each process has the batch norm statistics of its own batches; those of the main process are what is saved.
        self._machine.take_from_main(self._net.buffers())
        counts = PairCounts(0, 0)
        try:
            with interruptible(), self._machine.accelerator.autocast():
                counts = evaluate_samples(self._predict, self._samples(), stop=stop_here)
        except Interrupted:
            stopped = True
        wrong, total, stops = self._machine.gather_sum([counts.wrong, counts.total, float(stopped)])
        if stops:
            return None
        if not total:
            if self._machine.is_main:
                logger.warning("data.val: %s has no pair of unequal depth: no val/whdr", self._config.data.val)
            return {}
        return {"val/whdr": wrong / total, "val/pairs": total}

    def pictures(self, stop: Callable[[], bool]) -> NDArray[np.uint8] | None:
        """The grid (H, W, 3) of the first validation pictures, the same ones at every step; None where there are none.

        For the main process only.

        Args:
            stop: Asked before each picture; once it holds, there is no grid.
        """
        if self._fixed is None:
            limit = self._config.monitor.num_images
            fixed: list[Sample] = []
            for sample in validation_samples(self._config.data, 0, 1, limit) if limit else ():
                if stop():  # each may come from a shard of its own that has to be fetched
                    return None
                fixed.append(sample)
            self._fixed = fixed
        rows: list[NDArray[np.uint8]] = []
        with self._machine.accelerator.autocast():
            for sample in self._fixed:
                if stop():
                    return None
                rows.append(self._row(sample))
        return picture_grid(rows) if rows else None

    def _samples(self) -> Iterator[Sample]:
        machine = self._machine
        return validation_samples(
            self._config.data, machine.rank, machine.world_size, self._config.monitor.max_val_samples
        )

    def _row(self, sample: Sample) -> NDArray[np.uint8]:
        image = decode_jpeg(sample.image)
        known = None if sample.disparity is None else sample.disparity > 0
        return picture_row(image, sample.disparity, known, self._predict(image), sample.pairs)
