import copy

import pytest
import torch

from model import DepthNet, ModelConfig
from pipeline.eval.network import load_network
from pipeline.train.checkpoint import CheckpointStore
from pipeline.train.config import CheckpointConfig
from pipeline.train.ema import AveragedWeights, decay_of_update

TINY = ModelConfig(encoder="resnet18", decoder_channels=8)


def make_net(seed=0):
    torch.manual_seed(seed)
    return DepthNet(TINY)


def disturb(net, seed):
    """What a step does: other weights, other statistics, another count of batches."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.randn(tensor.shape, generator=rng))
            else:
                tensor.add_(1)


def test_the_decay_rises_from_a_tenth_to_the_one_that_is_set():
    decays = [decay_of_update(0.99, num_updates) for num_updates in range(1000)]
    assert decays[:3] == [1 / 10, 2 / 11, 3 / 12]
    assert decays == sorted(decays)
    assert decays[-1] == 0.99
    assert decays[880] < 0.99  # (1 + t) / (10 + t) reaches 0.99 at t = 890
    assert decay_of_update(0.05, 0) == 0.05


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_average_is_the_textbook_sum_of_weights_and_statistics(memory_format):
    net = make_net().to(memory_format=memory_format)
    ema = AveragedWeights(net, decay=0.3)
    expected = {name: tensor.double() for name, tensor in net.state_dict().items()}
    for step, share in enumerate((0.1, 2 / 11, 3 / 12, 0.3, 0.3)):
        disturb(net, step)
        ema.update()
        for name, tensor in net.state_dict().items():
            expected[name] = share * expected[name] + (1 - share) * tensor.double()
    assert ema.num_updates == 5
    assert any("running_var" in name for name in expected)
    for name, tensor in ema.net.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-5)
        else:
            assert torch.equal(tensor, net.state_dict()[name]), name


def test_the_average_is_a_copy_of_its_own_that_nothing_trains():
    net = make_net()
    ema = AveragedWeights(net, decay=0.5)
    start = copy.deepcopy(ema.net.state_dict())
    disturb(net, 1)
    assert all(torch.equal(tensor, start[name]) for name, tensor in ema.net.state_dict().items())
    assert not any(parameter.requires_grad for parameter in ema.net.parameters())
    assert not ema.net.training
    assert ema.net.size_hw == net.size_hw


def test_a_restored_average_goes_on_bit_for_bit():
    net = make_net()
    whole = AveragedWeights(net, decay=0.9)
    disturb(net, 1)
    whole.update()
    resumed = AveragedWeights(make_net(seed=3), decay=0.9)
    stored = copy.deepcopy(whole.net.state_dict())
    resumed.restore(stored, whole.num_updates)
    resumed_source = AveragedWeights(net, decay=0.9)
    resumed_source.restore(stored, whole.num_updates)
    for step in (2, 3):
        disturb(net, step)
        whole.update()
        resumed_source.update()
    assert resumed.num_updates == 1
    assert all(torch.equal(tensor, stored[name]) for name, tensor in resumed.net.state_dict().items())
    assert whole.num_updates == resumed_source.num_updates == 3
    for name, tensor in whole.net.state_dict().items():
        assert torch.equal(tensor, resumed_source.net.state_dict()[name]), name


def test_a_checkpoint_gives_its_average_to_whoever_loads_the_network(tmp_path, caplog):
    net = make_net()
    ema = AveragedWeights(net, decay=0.5)
    disturb(net, 1)
    ema.update()
    store = CheckpointStore(tmp_path, run_id="run", config=CheckpointConfig())
    state = {"config": {"model": TINY.model_dump(mode="json"), "train": {"size": [64, 96]}}}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1).state_dict()
    tensors = {"model": net.state_dict(), "optimizer": optimizer}
    for step, more in ((1, {}), (2, {"ema": ema.net.state_dict()})):
        store.save(step, {**tensors, **more}, state)
        store.wait()
    plain = load_network(tmp_path / "checkpoints" / "step_00000001", "cpu")
    with caplog.at_level("INFO", logger="depthrank"):
        averaged = load_network(tmp_path, "cpu")
    assert (plain.averaged, averaged.averaged) == (False, True)
    assert averaged.origin.name == "step_00000002"
    assert "moving average" in caplog.text
    for loaded, expected in ((plain.net, net), (averaged.net, ema.net)):
        assert all(torch.equal(tensor, expected.state_dict()[name]) for name, tensor in loaded.state_dict().items())
