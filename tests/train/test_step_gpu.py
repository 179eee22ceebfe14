"""What a training step on a GPU must not do: make the host wait for the device, or grow."""

import gc

import pytest
import torch

from model import LossConfig, ModelConfig
from pipeline.data.config import AugmentConfig, DataConfig
from pipeline.data.shared_batches import SharedBatches
from pipeline.train.config import OptimConfig, RunConfig, TrainConfig
from pipeline.train.machine import open_machine
from pipeline.train.parts import build_parts

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
BATCH, PAIRS, SIDE = 4, 64, 64


def make_config(loss, precision, **train):
    return RunConfig(
        run="unused",
        data=DataConfig(train="unused", num_pairs=PAIRS, augment=AugmentConfig(brightness=0.2, hue_deg=10)),
        model=ModelConfig(encoder="resnet18", decoder_channels=8),
        loss=loss,
        optim=OptimConfig(clip_grad_norm=1.0, ema_decay=0.99),
        train=TrainConfig(steps=1, batch_size=BATCH, size=SIDE, precision=precision, **train),
    )


def pinned_batch():
    """As the training stream hands it over."""
    rng = torch.Generator().manual_seed(0)
    batch = {
        "image": torch.randint(256, (BATCH, 3, SIDE, SIDE), dtype=torch.uint8, generator=rng),
        "inverse_depth": torch.rand(BATCH, SIDE, SIDE, generator=rng),
        "confidence": torch.randint(256, (BATCH, SIDE, SIDE), dtype=torch.uint8, generator=rng),
        "pairs_yx": torch.randint(SIDE, (BATCH, PAIRS, 4), generator=rng).to(torch.int16),
        "relation": torch.randint(-1, 2, (BATCH, PAIRS), generator=rng).to(torch.int8),
        "valid": torch.ones(BATCH, PAIRS, dtype=torch.bool),
        "colour": torch.tensor([[1.1, 0.9, 1.2, 0.1]]).expand(BATCH, 4).contiguous(),
    }
    pinned = {name: value.pin_memory() for name, value in batch.items()}
    return {**pinned, "replaced": 0, "keys": [str(index) for index in range(BATCH)]}


# fp16 is left out: its loss scale is decided on the host, which has to know whether a gradient overflowed.
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")  # that it is a prototype
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "loss",
    [LossConfig(), LossConfig(name="ranking", gradient_weight=0.2), LossConfig(name="ssi_mae", trim_share=0.2)],
    ids=lambda loss: loss.name,
)
def test_no_step_makes_the_host_wait_for_the_device(loss, precision):
    if precision == "bf16" and torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("emulated on this GPU")
    config = make_config(loss, precision, micro_batch_size=2, channels_last=True)
    step = build_parts(config, open_machine(config), resumes=False).optimizer_step
    halves = [
        {name: value if name == "replaced" else value[part] for name, value in pinned_batch().items()}
        for part in (slice(0, 2), slice(2, 4))
    ]
    for number in (1, 2):  # what is made once may wait: states of the optimizer, constants
        step.run(halves, 1e-3, number)
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")
        for number in (3, 4, 5):
            step.run(halves, 1e-3, number)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    step.settle()


def test_memory_does_not_grow_with_steps():
    config = make_config(LossConfig(), "fp32")
    step = build_parts(config, open_machine(config), resumes=False).optimizer_step
    used = []
    gc.collect()  # networks of other tests lie in cycles, and would go at any moment
    for number in range(1, 7):
        step.run([pinned_batch()], 1e-3, number)
        step.settle()
        torch.cuda.synchronize()
        used.append(torch.cuda.memory_allocated())
    assert len(set(used[2:])) == 1


def test_batches_come_in_pinned_memory():
    batches = SharedBatches({"image": ((3, 8, 8), torch.uint8)}, rows=2, under_way=0, pinned=True)
    assert batches.take(0, 2)["image"].is_pinned()
