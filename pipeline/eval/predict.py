"""A network as a function from a picture of any size to inverse depth of the same size.

    predict = Predictor(net, torch.device("cpu"))
    inverse_depth = predict(image)                  # (H, W, 3) uint8 -> (H, W) float32, larger = nearer

The picture is scaled with its aspect kept to about the area that the network was trained on, because a network's sense
of depth depends on how large things appear to it. What it was before (training mode, random state) it is afterwards.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["STRIDE_PX", "Predictor", "evaluation_mode", "network_size"]

STRIDE_PX = 32
"""Both sides of the network's input are multiples of its coarsest stride."""


def network_size(picture_hw: tuple[int, int], training_hw: tuple[int, int]) -> tuple[int, int]:
    """Height and width at which the network sees a picture.

    Each is the multiple of 32 nearest to what keeps the picture's aspect at the training area, so a picture of the
    training aspect gets the training size itself. A strip more extreme than 32 pixels of the training area is squeezed.
    """
    area_px = training_hw[0] * training_hw[1]
    aspect = picture_hw[1] / picture_hw[0]
    longest_px = area_px / STRIDE_PX
    height, width = (
        max(1, round(min(side, longest_px) / STRIDE_PX)) * STRIDE_PX
        for side in (math.sqrt(area_px / aspect), math.sqrt(area_px * aspect))
    )
    return height, width


class Predictor:
    """Callable: picture (H, W, 3) uint8 to relative inverse depth (H, W) float32.

    Args:
        net: (B, 3, h, w) uint8 to (B, h, w), on `device` already.
        device: where it computes.
        size_hw: training height and width in pixels; by default the network's own `size_hw`.
        batch_size: pictures of one shape that go through the network together in `many`.
    """

    def __init__(
        self,
        net: nn.Module,
        device: torch.device | str,
        *,
        size_hw: tuple[int, int] | None = None,
        batch_size: int = 8,
    ) -> None:
        self.net = net
        self.device = torch.device(device)
        self.size_hw = size_hw or cast("tuple[int, int]", net.size_hw)
        self.batch_size = batch_size

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Predict one picture."""
        return self.many([image])[0]

    def many(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """Predict several; neighbours that the network sees at one size share a batch. Order is kept."""
        results: list[NDArray[np.float32]] = []
        with evaluation_mode(self.net), torch.inference_mode():
            for batch in self._batches(images):
                inputs = torch.cat([_shrink(image, self._size(image)) for image in batch]).to(self.device)
                outputs = self.net(inputs).float()
                results += [_enlarge(output, image) for output, image in zip(outputs, batch, strict=True)]
        return results

    def _size(self, image: NDArray[np.uint8]) -> tuple[int, int]:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(f"a picture must be (H, W, 3) uint8, not {image.shape} {image.dtype}")
        return network_size((image.shape[0], image.shape[1]), self.size_hw)

    def _batches(self, images: Sequence[NDArray[np.uint8]]) -> Iterator[list[NDArray[np.uint8]]]:
        batch: list[NDArray[np.uint8]] = []
        for image in images:
            if batch and (len(batch) == self.batch_size or self._size(image) != self._size(batch[0])):
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
