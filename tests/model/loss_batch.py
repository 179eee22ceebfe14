"""A batch of labels for the tests of the losses, and their configs."""

import torch
from torch import Tensor

from model import LossConfig

H, W = 9, 7

CONFIGS = {
    "ranking": LossConfig(name="ranking"),
    "ranking, CVPR 2020": LossConfig(name="ranking", equal_weight=1.0, gradient_weight=0.2),
    "improved ranking": LossConfig(name="improved_ranking"),
    "improved ranking, batch": LossConfig(name="improved_ranking", scope="batch", equal_weight=0.3, hard_share=0.6),
    "mae": LossConfig(name="mae"),
    "mae, gradient": LossConfig(name="mae", gradient_weight=0.5, gradient_scales=3),
    "mse": LossConfig(name="mse"),
    "mse, gradient": LossConfig(name="mse", gradient_weight=1.0, gradient_scales=2),
    "ssi": LossConfig(name="ssi_mae"),
    "ssi, MiDaS": LossConfig(name="ssi_mae", trim_share=0.2, gradient_weight=0.5),
}


def make_batch(batch: int = 3, num_pairs: int = 41, *, seed: int = 0) -> dict[str, Tensor]:
    """Labels as the training stream gives them: unknown pixels, graded confidences, padding."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, H, (batch, num_pairs, 2), generator=g)
    x = torch.randint(0, W, (batch, num_pairs, 2), generator=g)
    confidence = torch.randint(1, 256, (batch, H, W), generator=g).to(torch.uint8)
    confidence[torch.rand(batch, H, W, generator=g) < 0.3] = 0
    return {
        "pairs_yx": torch.stack([y[..., 0], x[..., 0], y[..., 1], x[..., 1]], dim=-1).to(torch.int16),
        "relation": torch.randint(-1, 2, (batch, num_pairs), generator=g).to(torch.int8),
        "valid": torch.rand(batch, num_pairs, generator=g) < 0.8,
        "inverse_depth": torch.rand(batch, H, W, generator=g),
        "confidence": confidence,
    }


def make_prediction(batch: int = 3, *, seed: int = 100) -> Tensor:
    """(B, H, W) float64."""
    return torch.randn(batch, H, W, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair_arguments(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    return batch["pairs_yx"], batch["relation"], batch["valid"]


def rows(batch: dict[str, Tensor], chosen: slice | list[int]) -> dict[str, Tensor]:
    """Some pictures of a batch."""
    return {name: value[chosen] for name, value in batch.items()}
