import numpy as np
import pytest
import torch

from model import DepthNet, ModelConfig
from model.sgr_checkpoint import SGR_CONFIG
from pipeline.eval.network import load_network
from pipeline.eval.predict import Predictor
from pipeline.train.checkpoint import CheckpointStore
from pipeline.train.config import CheckpointConfig
from shards.errors import CheckpointError

TINY = ModelConfig(encoder="resnet18", decoder_channels=8)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return DepthNet.from_config(TINY)


def write_checkpoint(run, step, net, **changes):
    """A checkpoint as a trainer writes it, with an encoder file that is gone."""
    model = {**TINY.model_dump(mode="json"), "encoder_weights": "/gone/encoder.safetensors"}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1).state_dict()
    state = {"config": {"model": model, "train": {"size": [64, 96], "steps": 5}}, **changes}
    store = CheckpointStore(run, run_id="run", config=CheckpointConfig(keep_last=9))
    store.save(step, {"model": net.state_dict(), "optimizer": optimizer}, state)
    store.wait()
    assert store.last_error is None
    return run / "checkpoints" / f"step_{step:08d}"


def same_weights(a, b):
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


def test_a_finished_run_gives_its_network(tmp_path, net):
    net.save_pretrained(tmp_path, size_hw=(64, 96))
    loaded = load_network(tmp_path, "cpu")
    assert same_weights(net, loaded.net)
    assert loaded.net.size_hw == (64, 96)
    assert not loaded.net.training


def test_a_checkpoint_gives_the_network_of_its_config(tmp_path, net):
    folder = write_checkpoint(tmp_path, 3, net)
    loaded = load_network(folder, "cpu")
    assert same_weights(net, loaded.net)
    assert loaded.net.size_hw == (64, 96)
    image = np.random.default_rng(0).integers(0, 255, (70, 100, 3), dtype=np.uint8)
    assert Predictor(loaded.net, "cpu")(image).shape == (70, 100)


def test_an_unfinished_run_gives_its_newest_sound_checkpoint_and_says_what_it_passed_over(tmp_path, net):
    older = write_checkpoint(tmp_path, 20, net)
    newest = write_checkpoint(tmp_path, 100, DepthNet(TINY))
    data = bytearray((newest / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (newest / "model.safetensors").write_bytes(data)
    loaded = load_network(tmp_path, "cpu")
    assert loaded.origin == older
    assert same_weights(net, loaded.net)
    assert len(loaded.refused) == 1
    assert "step_00000100" in loaded.refused[0]


@pytest.mark.parametrize(
    "config",
    [None, {"model": {"encoder": "vgg"}, "train": {"size": [64, 96]}}, {"model": {}, "train": {"size": 3}}],
)
def test_a_checkpoint_without_a_config_is_refused_by_name(tmp_path, net, config):
    folder = write_checkpoint(tmp_path, 3, net, config=config)
    with pytest.raises(CheckpointError, match="holds no config"):
        load_network(folder, "cpu")


def test_a_checkpoint_of_other_weights_is_refused(tmp_path, net):
    model = {**TINY.model_dump(mode="json"), "decoder_channels": 16}
    folder = write_checkpoint(tmp_path, 3, net, config={"model": model, "train": {"size": [64, 96]}})
    with pytest.raises(CheckpointError, match="do not fit"):
        load_network(folder, "cpu")


def test_folders_without_a_network_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere: no such folder or file"):
        load_network(tmp_path / "nowhere", "cpu")
    with pytest.raises(CheckpointError, match="holds neither"):
        load_network(tmp_path, "cpu")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="config"):
        load_network(tmp_path, "cpu")


def test_a_run_of_damaged_checkpoints_only_is_refused(tmp_path, net):
    folder = write_checkpoint(tmp_path, 3, net)
    (folder / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="none of its 1 checkpoints"):
        load_network(tmp_path, "cpu")


def write_official_file(path):
    """Names and shapes of the official file; each tensor is one number, repeated, so that it takes no room."""
    with torch.device("meta"):
        official = DepthNet(SGR_CONFIG).state_dict()
    state = {
        name: torch.tensor(index / 1000).expand(tensor.shape).to(tensor.dtype)
        for index, (name, tensor) in enumerate(official.items())
    }
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 50}, path)
    return state


def test_the_official_file_of_cvpr_2020_gives_its_network(tmp_path):
    path = tmp_path / "model.pth.tar"
    state = write_official_file(path)
    loaded = load_network(path, "cpu")
    assert loaded.origin == path
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.net.state_dict().items())
    assert loaded.net.size_hw == (448, 448)
    assert loaded.net.config == SGR_CONFIG
    assert not loaded.net.training


def test_other_files_are_refused_with_what_can_be_given(tmp_path, net):
    net.save_pretrained(tmp_path)
    (tmp_path / "page.pth.tar").write_text("<html>quota exceeded</html>")
    torch.save(net.state_dict(), tmp_path / "own.pth")
    for name in ("model.safetensors", "page.pth.tar", "own.pth", "config.json"):
        with pytest.raises(CheckpointError, match=f"{name}.*a run or an export of this project is a folder"):
            load_network(tmp_path / name, "cpu")
