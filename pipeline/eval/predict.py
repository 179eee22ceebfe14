"""A network as a function from a picture of any size to inverse depth of the same size.

    predict = Predictor(net, torch.device("cpu"))
    inverse_depth = predict(image)                  # (H, W, 3) uint8 -> (H, W) float32, larger = nearer

The picture is scaled with its aspect kept to about the area that the network was trained on, because a network's sense
of depth depends on how large things appear to it. What it was before (training mode, random state) it is afterwards.

With `Inference` it is asked several times. A mirrored answer is in the same unit and is averaged as it is. Answers at
different sizes are relative maps of their own: each is brought to the median and the mean absolute deviation of the one
nearest to the usual size, so that none outweighs the others and the unit of the answer stays the network's.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pipeline.eval.inference import Inference

__all__ = ["Predictor", "evaluation_mode"]


class Predictor:
    """Callable: picture (H, W, 3) uint8 to relative inverse depth (H, W) float32.

    Args:
        net: (B, 3, h, w) uint8 to (B, h, w), on `device` already.
        device: where it computes.
        size_hw: training height and width in pixels; by default the network's own `size_hw`.
        batch_size: pictures of one shape that go through the network together in `many`.
        inference: at which sizes and how often it is asked.
    """

    def __init__(
        self,
        net: nn.Module,
        device: torch.device | str,
        *,
        size_hw: tuple[int, int] | None = None,
        batch_size: int = 8,
        inference: Inference = Inference(),  # noqa: B008 - frozen
    ) -> None:
        self.net = net
        self.device = torch.device(device)
        self.size_hw = size_hw or cast("tuple[int, int]", net.size_hw)
        self.batch_size = batch_size
        self.inference = inference

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Predict one picture."""
        return self.many([image])[0]

    def many(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """Predict several; neighbours that the network sees at one size share a batch. Order is kept."""
        results: list[NDArray[np.float32]] = []
        with evaluation_mode(self.net), torch.inference_mode():
            for batch in self._batches(images):
                answers = [self._ask(batch, size_hw) for size_hw in self._sizes(batch[0])]
                results += [self._average(list(maps)) for maps in zip(*answers, strict=True)]
        return results

    def _ask(self, batch: Sequence[NDArray[np.uint8]], size_hw: tuple[int, int]) -> list[NDArray[np.float32]]:
        """The answers at one size, at the size of the pictures."""
        inputs = torch.cat([_shrink(image, size_hw) for image in batch]).to(self.device)
        outputs = self.net(inputs).float()
        if self.inference.flip:
            outputs = (outputs + self.net(inputs.flip(-1)).float().flip(-1)) / 2
        return [_enlarge(output, image) for output, image in zip(outputs, batch, strict=True)]

    def _average(self, maps: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """The mean of a picture's answers at several sizes, in the unit of the reference."""
        if len(maps) == 1:
            return maps[0]
        middle, spread = _median_and_deviation(maps[self.inference.reference])
        total = np.zeros(maps[0].shape, dtype=np.float64)
        for answer in maps:
            own_middle, own_spread = _median_and_deviation(answer)
            total += (answer - own_middle) * (spread / own_spread if own_spread else 0.0) + middle
        mean: NDArray[np.float32] = (total / len(maps)).astype(np.float32)
        return mean

    def _sizes(self, image: NDArray[np.uint8]) -> tuple[tuple[int, int], ...]:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(f"a picture must be (H, W, 3) uint8, not {image.shape} {image.dtype}")
        return self.inference.sizes((image.shape[0], image.shape[1]), self.size_hw)

    def _batches(self, images: Sequence[NDArray[np.uint8]]) -> Iterator[list[NDArray[np.uint8]]]:
        batch: list[NDArray[np.uint8]] = []
        for image in images:
            if batch and (len(batch) == self.batch_size or self._sizes(image) != self._sizes(batch[0])):
                yield batch
                batch = []
            batch.append(image)
        if batch:
            yield batch


@contextmanager
def evaluation_mode(net: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards each module is again in the mode it was in, frozen ones included."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _shrink(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> Tensor:
    """Picture (H, W, 3) to the network's input (1, 3, h, w) uint8, antialiased bilinear as in training."""
    picture = torch.tensor(image).permute(2, 0, 1)[None]
    return functional.interpolate(picture, size_hw, mode="bilinear", antialias=True)


def _enlarge(output: Tensor, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Prediction (h, w) to the picture's size (H, W), bilinear with pixel centres aligned."""
    height, width = image.shape[:2]
    resized = functional.interpolate(output[None, None], (height, width), mode="bilinear", align_corners=False)
    result: NDArray[np.float32] = resized[0, 0].cpu().numpy()
    return result


def _median_and_deviation(values: NDArray[np.float32]) -> tuple[float, float]:
    middle = float(np.median(values))
    return middle, float(np.mean(np.abs(values - middle), dtype=np.float64))
