"""Validation while training: WHDR and histograms on the split `val`, and the grid of fixed pictures.

validation = Validation(config, machine, net)
evaluation = validation.evaluate(stop=lambda: False)
evaluation.figures                                   # {"val/whdr": 0.21, "val/pairs": 48000}
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model import DepthNet
from pipeline.data.loader import validation_samples
from pipeline.eval.metrics import PairCounts
from pipeline.eval.predict import Predictor
from pipeline.eval.whdr import evaluate_samples
from pipeline.train.config import RunConfig
from pipeline.train.grid import pair_sheet, picture_grid, picture_row
from pipeline.train.histograms import Histogram, Spread, bin_spreads, pair_margins
from pipeline.train.machine import Machine
from pipeline.train.session import Interrupted
from shards.format import Sample, decode_jpeg

__all__ = ["Evaluation", "Validation"]

CODE_MAX = 65535
"""Of a stored map of inverse depth; 0 is unknown."""

logger = logging.getLogger("depthrank")


class Evaluation(NamedTuple):
    """What the validation set says of a network."""

    figures: dict[str, float]
    """`val/whdr`, 0..1, lower is better, and `val/pairs`, the number of pairs judged; nothing where the set has no
    unequal pair."""
    histograms: dict[str, Histogram]
    """For TensorBoard, by tag; none without it."""


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

    def evaluate(
        self, stop: Callable[[], bool], interruptible: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> Evaluation | None:
        """WHDR over all processes, exact; each picture is judged by one of them.

        Args:
            stop: Asked before each picture; once it holds on any process, there is no result.
            interruptible: Within, `Interrupted` may be raised, which means the same: a picture may have to be fetched.

        Returns:
            None when it was stopped.

        Raises:
            DataError: A sample cannot be read.
        """
        stopped = False

        def stop_here() -> bool:
            nonlocal stopped
            stopped = stopped or stop()
            return stopped

        # After a step batch norm statistics differ by each process's own batch; the main process's are what is saved.
        self._machine.take_from_main(self._net.buffers())
        counts, seen = PairCounts(0, 0), _Seen()
        observe = seen.observe if self._config.monitor.tensorboard else None
        try:
            with interruptible(), self._machine.accelerator.autocast():
                counts = evaluate_samples(self._predict, self._samples(), stop=stop_here, observe=observe)
        except Interrupted:
            stopped = True
        wrong, total, stops = self._machine.gather_sum([counts.wrong, counts.total, float(stopped)])
        if stops:
            return None
        histograms = bin_spreads(seen.spreads, self._machine.gather_max, self._machine.gather_sum)
        if not total:
            if self._machine.is_main:
                logger.warning("data.val: %s has no pair of unequal depth: no val/whdr", self._config.data.val)
            return Evaluation({}, histograms)
        return Evaluation({"val/whdr": wrong / total, "val/pairs": total}, histograms)

    def pictures(self, stop: Callable[[], bool]) -> dict[str, NDArray[np.uint8]] | None:
        """Pictures (H, W, 3) by tag, of the first validation samples, the same ones at every step.

        `val/pictures` is the grid of input, target, prediction and pairs; `val/pair_overlay` shows the pairs large.
        For the main process only.

        Args:
            stop: Asked before each sample; once it holds, there is no picture.

        Returns:
            None when it was stopped, and where there is no sample.
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
        judged: list[tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int16]]] = []
        with self._machine.accelerator.autocast():
            for sample in self._fixed:
                if stop():
                    return None
                image = decode_jpeg(sample.image)
                known = None if sample.disparity is None else sample.disparity > 0
                prediction = self._predict(image)
                rows.append(picture_row(image, sample.disparity, known, prediction, sample.pairs))
                judged.append((image, prediction, sample.pairs))
        return {"val/pictures": picture_grid(rows), "val/pair_overlay": pair_sheet(judged)} if rows else None

    def _samples(self) -> Iterator[Sample]:
        machine = self._machine
        return validation_samples(
            self._config.data, machine.rank, machine.world_size, self._config.monitor.max_val_samples
        )


class _Seen:
    """What an evaluation saw on this process, for its histograms."""

    def __init__(self) -> None:
        self._prediction, self._margin, self._target = Spread(), Spread(), Spread(scale=1 / CODE_MAX)
        self.spreads = {
            "val/inverse_depth": self._prediction,
            "val/target": self._target,
            "val/pair_margin": self._margin,
        }

    def observe(self, sample: Sample, prediction: NDArray[Any]) -> None:
        self._prediction.add(prediction)
        self._margin.add(pair_margins(prediction, sample.pairs))
        if sample.disparity is not None:
            self._target.add(sample.disparity, sample.disparity > 0)
