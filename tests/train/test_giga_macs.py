from typing import get_args

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model import DepthNet
from model.config import EncoderName, ModelConfig
from pipeline.data.config import DataConfig
from pipeline.train.config import RunConfig, TrainConfig
from pipeline.train.plan import giga_macs


@pytest.mark.parametrize(
    "settings", [*({"encoder": name} for name in get_args(EncoderName)), {"name": "midas"}, {"name": "sgr"}]
)
def test_as_many_multiply_adds_are_counted_as_torch_counts(settings):
    model = ModelConfig(**settings)
    config = RunConfig(run="unused", model=model, data=DataConfig(train="unused"), train=TrainConfig(steps=1, size=64))
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        DepthNet(model).eval()(torch.empty(1, 3, 64, 64))
    assert giga_macs(config) == counter.get_total_flops() / 2e9 > 0.1
