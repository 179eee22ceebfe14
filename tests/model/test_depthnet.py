import json

import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from model import DepthNet, ModelConfig
from model.decoders.fusion import FusionDecoder, ResidualConvBlock
from model.encoders import build_encoder

SMALL = ModelConfig(encoder="resnet18", decoder_channels=16)


def test_the_paper_network_costs_61_8_gmac_at_384():
    net = DepthNet.from_config(ModelConfig(encoder="resnet50")).eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 3, 384, 384))
    assert counter.get_total_flops() / 2e9 == pytest.approx(61.8, rel=0.005)


@pytest.mark.parametrize(
    ("name", "encoder"),
    [
        ("redweb", "resnet18"),
        ("sgr", "resnet18"),
        ("midas", "resnet18"),
        ("redweb", "convnext_tiny"),
        ("redweb", "mobilenet_v3_large"),
    ],
)
def test_an_unfilled_network_is_the_same_once_it_is_filled(name, encoder):
    config = ModelConfig(name=name, encoder=encoder, decoder_channels=8, encoder_weights="of/another/machine.pth")
    torch.manual_seed(0)
    drawn = DepthNet(config).eval()
    before = torch.get_rng_state()
    net = DepthNet.unfilled(config).eval()
    assert torch.equal(torch.get_rng_state(), before)
    net.load_state_dict(drawn.state_dict())
    for (own_name, own), (other_name, other) in zip(tensors_of(net), tensors_of(drawn), strict=True):
        assert own_name == other_name and own.device.type == "cpu" and torch.equal(own, other)
    assert [p.requires_grad for p in net.parameters()] == [p.requires_grad for p in drawn.parameters()]
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(net(image), drawn(image))


def tensors_of(net):
    """Parameters and all buffers, those too that are not saved."""
    return [*net.named_parameters(), *net.named_buffers()]


@pytest.mark.parametrize("size", [(64, 64), (33, 95), (1, 7), (100, 32)])
def test_the_output_has_the_size_of_the_input(size):
    net = DepthNet.from_config(SMALL).eval()
    assert net(torch.rand(2, 3, *size)).shape == (2, *size)


def test_padding_changes_nothing_where_none_is_needed():
    net = DepthNet.from_config(SMALL).eval()
    image = torch.rand(1, 3, 64, 96)
    stages = net.encoder((image - net.image_mean) / net.image_std)
    torch.testing.assert_close(net(image), net.decoder(stages))


def test_bytes_and_floats_give_the_same_prediction():
    net = DepthNet.from_config(SMALL).eval()
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(net(image), net(image.float() / 255))


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 3, 0, 64)])
def test_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="must be"):
        DepthNet.from_config(SMALL)(torch.zeros(shape))


@pytest.mark.parametrize("rectified", [False, True])
def test_the_residual_block_is_the_drawn_formula(rectified):
    block = ResidualConvBlock(4, rectified=rectified)
    x = torch.randn(1, 4, 8, 8)
    before = x.clone()
    branch = functional.conv2d(x.relu(), block.conv1.weight, block.conv1.bias, padding=1).relu()
    branch = functional.conv2d(branch, block.conv2.weight, block.conv2.bias, padding=1)
    torch.testing.assert_close(block(x), (x.relu() if rectified else x) + branch)
    assert torch.equal(x, before), "the block must not change its input in place"


def test_every_stage_reaches_the_output():
    decoder = FusionDecoder((8, 8, 8, 8), channels=8)
    stages = [torch.randn(1, 8, 32 // s, 32 // s, requires_grad=True) for s in (1, 2, 4, 8)]
    decoder(stages).sum().backward()
    assert all(stage.grad is not None and stage.grad.abs().sum() > 0 for stage in stages)


def test_a_saved_network_predicts_the_same(tmp_path):
    net = DepthNet.from_config(SMALL).eval()
    net.save_pretrained(tmp_path, size_hw=(96, 128))
    again = DepthNet.from_pretrained(tmp_path)
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(again(image), net(image))
    assert again.size_hw == (96, 128) and again.config == SMALL and not again.training


def test_a_saved_config_does_not_tell_where_the_weights_lay(tmp_path):
    encoder = tmp_path / "secret-place.safetensors"
    from safetensors.torch import save_file

    save_file(build_encoder(SMALL).state_dict(), encoder)
    net = DepthNet.from_config(SMALL.model_copy(update={"encoder_weights": str(encoder)}))
    net.save_pretrained(tmp_path / "out")
    assert "secret" not in (tmp_path / "out" / "config.json").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c | {"format_version": 9}, "format_version 9 is not 1"),
        (lambda c: c | {"size_hw": [0, 5]}, "size_hw"),
        (lambda c: c | {"model": c["model"] | {"decoder_channels": 32}}, "another shape"),
        (lambda c: c | {"model": c["model"] | {"encoder": "vgg"}}, "encoder"),
        (lambda c: [c], "is not the config"),
    ],
)
def test_a_wrong_config_gets_one_clear_line(tmp_path, change, message):
    DepthNet.from_config(SMALL).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match=message):
        DepthNet.from_pretrained(tmp_path)


def test_a_folder_without_a_network_is_named(tmp_path):
    with pytest.raises(ValueError, match="holds no network"):
        DepthNet.from_pretrained(tmp_path)


def test_frozen_norms_stay_as_loaded():
    net = DepthNet.from_config(SMALL.model_copy(update={"freeze_bn": True})).train()
    before = net.encoder.bn1.running_mean.clone()
    net(torch.rand(2, 3, 64, 64)).sum().backward()
    assert torch.equal(net.encoder.bn1.running_mean, before)
    assert net.encoder.bn1.weight.grad is None and net.encoder.conv1.weight.grad is not None
    assert net.decoder.training


def test_parameters_are_split_into_encoder_and_decoder():
    net = DepthNet.from_config(SMALL)
    parts = {id(p) for p in net.encoder_parameters()}, {id(p) for p in net.decoder_parameters()}
    assert parts[0] | parts[1] == {id(p) for p in net.parameters()} and not parts[0] & parts[1]
