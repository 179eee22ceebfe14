"""What a run will write, counted before it begins.

needed_bytes, needed_files = will_write(config, samples=12_000)
"""

from pipeline.train.config import RunConfig

__all__ = ["will_write"]

FILES_A_CHECKPOINT = 6
OTHER_FILES = 20
"""Settings, status, logs, weights, newest pictures, TensorBoard's files (one a session), the page about the run."""
LOG_BYTES = 300 * 10**6


def will_write(config: RunConfig, samples: int) -> tuple[int, int]:
    """Bytes and files that the run's folder may come to, at the most that it holds at a time.

    Args:
        config: Of the run.
        samples: Training samples of the dataset.
    """
    import torch

    from model import DepthNet
    from pipeline.train.schedule import run_length
    from pipeline.train.trainer import NUMBERS_PER_WEIGHT

    with torch.device("meta"):
        net = DepthNet(config.model)
    weights = sum(parameter.numel() for parameter in net.parameters())
    numbers = NUMBERS_PER_WEIGHT + (config.optim.ema_decay is not None)
    steps = run_length(config.train, config.optim, samples)
    every = config.checkpoint.keep_every_steps
    kept = config.checkpoint.keep_last + 2 + (0 if every is None else steps // every)  # the best, and one being written
    needed_bytes = 4 * weights * (numbers * kept + 1) + LOG_BYTES
    return needed_bytes, FILES_A_CHECKPOINT * kept + OTHER_FILES
