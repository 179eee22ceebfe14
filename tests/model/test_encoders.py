import math
from typing import get_args

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import get_model

from model import ModelConfig
from model.config import EncoderName
from model.encoders import build_encoder, resnet_blocks
from model.encoders.resnet import ResNetEncoder

ENCODERS = get_args(EncoderName)
BOTTLENECKS = ("resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d")
LARGE = ("resnet101", "resnet152", "resnext101_32x8d", "convnext_small")
RESNET_NODES = ("layer1", "layer2", "layer3", "layer4")
CONVNEXT_NODES = ("features.1", "features.3", "features.5", "features.7")
NODES = {
    "convnext_tiny": CONVNEXT_NODES,
    "convnext_small": CONVNEXT_NODES,
    "mobilenet_v3_large": ("features.3", "features.6", "features.12", "features.16"),
}
CHANNELS = {
    "resnet18": (64, 128, 256, 512),
    "resnet34": (64, 128, 256, 512),
    "convnext_tiny": (96, 192, 384, 768),
    "convnext_small": (96, 192, 384, 768),
    "mobilenet_v3_large": (24, 40, 112, 960),
} | dict.fromkeys(BOTTLENECKS, (256, 512, 1024, 2048))


def on_meta(build, *args, **kwargs):
    """A network without storage, whose weights are neither drawn nor kept."""
    with torch.device("meta"):
        return build(*args, **kwargs)


def random_state(net):
    """Tensors of the sizes of `net` that keep activations moderate and give every batch norm its own statistics."""
    generator = torch.Generator().manual_seed(1)
    state = {}
    for name, tensor in net.state_dict().items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros_like(tensor, device="cpu")
        elif name.endswith(("running_var", "layer_scale")) or (tensor.ndim == 1 and name.endswith("weight")):
            state[name] = torch.empty(tensor.shape).uniform_(0.001, 0.5, generator=generator)
        else:
            bound = math.sqrt(3 / max(1, tensor[0].numel()))
            state[name] = torch.empty(tensor.shape).uniform_(-bound, bound, generator=generator)
    return state


@pytest.mark.parametrize(
    ("name", "groups", "width"), [("BasicBlock", 1, 64), ("Bottleneck", 1, 64), ("Bottleneck", 8, 4)]
)
@pytest.mark.parametrize("stride", [1, 2])
def test_a_seed_draws_the_weights_of_torchvisions_block_and_trains_it_alike(name, groups, width, stride):
    def built(module):
        torch.manual_seed(3)
        planes = 64 // getattr(module, name).expansion
        projection = nn.Sequential(nn.Conv2d(64, 64, 1, stride, bias=False), nn.BatchNorm2d(64))
        return getattr(module, name)(64, planes, stride, projection, groups=groups, base_width=width)

    ours, theirs = built(resnet_blocks), built(torchvision.models.resnet)
    results = []
    for block in (ours, theirs):
        features = torch.rand(2, 64, 8, 8, generator=torch.Generator().manual_seed(1), requires_grad=True)
        block(features).square().sum().backward()
        results.append([*block.state_dict().items(), ("features", features.grad)])
        results[-1] += [(key, parameter.grad) for key, parameter in block.named_parameters()]
    for (own_name, own), (other_name, other) in zip(*results, strict=True):
        assert own_name == other_name and torch.equal(own, other)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_with_fixed_statistics_it_trains_as_torchvisions_network_does(name, channels_last):
    reference = get_model(name, weights=None)
    state = {key: value.double() for key, value in random_state(reference).items()}
    reference.double().load_state_dict(state)
    encoder = build_encoder(ModelConfig(encoder=name)).double()
    encoder.load_state_dict({k: v for k, v in state.items() if k not in encoder.classifier_names})
    if channels_last:
        encoder.to(memory_format=torch.channels_last)
    image = torch.rand(2, 3, 64, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = []
    reference.layer4.register_forward_hook(lambda module, inputs, output: expected.append(output))
    reference.eval()(image)
    stage = encoder.eval()(image)[-1]
    assert torch.allclose(stage, expected[0], rtol=1e-9)
    weighting = torch.linspace(-1, 1, stage.numel(), dtype=torch.float64).view_as(stage)
    for output in (expected[0], stage):
        (output * weighting).sum().backward()
    theirs = dict(reference.named_parameters())
    for key, parameter in encoder.named_parameters():
        assert torch.allclose(parameter.grad, theirs[key].grad, rtol=1e-6, atol=1e-9 * theirs[key].grad.abs().max())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in ENCODERS]
)
def test_every_stage_equals_torchvisions_network_of_the_same_weights(name):
    reference = on_meta(get_model, name, weights=None)
    state = random_state(reference)
    reference.load_state_dict(state, assign=True)
    encoder = on_meta(build_encoder, ModelConfig(encoder=name))
    encoder.load_state_dict({k: v for k, v in state.items() if k not in encoder.classifier_names}, assign=True)
    expected = []
    for node in NODES.get(name, RESNET_NODES):
        reference.get_submodule(node).register_forward_hook(lambda module, inputs, output: expected.append(output))
    image = torch.rand(1, 3, 64, 32)
    with torch.inference_mode():
        reference.eval()(image)
        stages = encoder.eval()(image)
    assert len(stages) == len(expected) == 4
    for stage, wanted in zip(stages, expected, strict=True):
        assert torch.isfinite(stage).all() and stage.std() > 0
        assert torch.equal(stage, wanted)


@pytest.mark.parametrize("name", ENCODERS)
def test_stages_are_the_deepest_maps_of_their_strides_in_torchvisions_network(name):
    reference = on_meta(get_model, name, weights=None).eval()
    layers = reference.features if hasattr(reference, "features") else list(reference.children())[:-2]
    deepest, features = {}, torch.zeros(1, 3, 64, 128, device="meta")
    for layer in layers:
        features = layer(features)
        deepest[64 // features.shape[2]] = features.shape
    encoder = on_meta(build_encoder, ModelConfig(encoder=name))
    stages = encoder.eval()(torch.zeros(1, 3, 64, 128, device="meta"))
    assert [stage.shape for stage in stages] == [deepest[stride] for stride in (4, 8, 16, 32)]
    assert encoder.channels == CHANNELS[name] == tuple(stage.shape[1] for stage in stages)

    own, theirs = encoder.state_dict(), reference.state_dict()
    assert encoder.classifier_names < theirs.keys()
    assert {k: v.shape for k, v in own.items()} == {
        k: v.shape for k, v in theirs.items() if k not in encoder.classifier_names
    }
    for node in NODES.get(name, RESNET_NODES):  # strides, groups, epsilons and rates, as far as they are printed
        assert str(encoder.get_submodule(node)) == str(reference.get_submodule(node))


@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d"])
def test_v1_puts_the_stride_on_the_first_convolution(name):
    strides = {}
    for variant in ("v1", "v1.5"):
        encoder = on_meta(build_encoder, ModelConfig(encoder=name, encoder_variant=variant))
        blocks = [stage[0] for stage in (encoder.layer2, encoder.layer3, encoder.layer4)]
        strides[variant] = [(block.conv1.stride, block.conv2.stride) for block in blocks]
        stages = encoder(torch.zeros(1, 3, 64, 128, device="meta"))
        assert [stage.shape[3] for stage in stages] == [32, 16, 8, 4]
    assert strides == {"v1": [((2, 2), (1, 1))] * 3, "v1.5": [((1, 1), (2, 2))] * 3}


def test_a_narrow_encoder_has_a_quarter_of_the_weights():
    wide, narrow = (sum(p.numel() for p in ResNetEncoder("resnet18", width=w).parameters()) for w in (64, 32))
    assert wide / narrow == pytest.approx(4, rel=0.01)
    assert ResNetEncoder("resnet18", width=32).channels == (32, 64, 128, 256)


@pytest.mark.parametrize(("name", "own"), [("resnet18", 1e-5), ("mobilenet_v3_large", 1e-3)])
def test_epsilon_is_torchvisions_unless_it_is_given(name, own):
    def epsilons(config):
        return {m.eps for m in on_meta(build_encoder, config).modules() if isinstance(m, nn.BatchNorm2d)}

    assert epsilons(ModelConfig(encoder=name)) == {own}
    assert epsilons(ModelConfig(encoder=name, encoder_bn_eps=1.001e-5)) == {1.001e-5}


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_large"])
def test_without_its_batch_norms_an_encoder_remembers_nothing_of_a_batch(name):
    encoder = build_encoder(ModelConfig(encoder=name)).train()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    for norm in encoder.batch_norms():
        norm.eval()
    encoder(torch.rand(2, 3, 32, 32))
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    encoder.train()(torch.rand(2, 3, 64, 64))
    changed = {k.rpartition(".")[0] for k, v in encoder.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {k.rpartition(".")[0] for k in before if k.endswith("running_mean")}


def test_convnext_skips_the_same_branches_when_torchs_generator_is_restored():
    encoder = build_encoder(ModelConfig(encoder="convnext_tiny")).train()
    nn.init.ones_(encoder.features[7][2].layer_scale)  # 1e-6 when new, too little to see a skip
    image = torch.rand(8, 3, 32, 32)
    with torch.no_grad():
        torch.manual_seed(0)
        encoder(image)
        restored = torch.get_rng_state()
        second, third = encoder(image)[-1], encoder(image)[-1]
        torch.set_rng_state(restored)
        assert torch.equal(encoder(image)[-1], second)
        assert not torch.equal(second, third)
        encoder.eval()
        assert torch.equal(encoder(image)[-1], encoder(image)[-1])


@pytest.mark.parametrize(("name", "last"), [("convnext_tiny", 0.1), ("convnext_small", 0.4)])
def test_convnext_skips_at_the_documented_rates(name, last):
    encoder = on_meta(build_encoder, ModelConfig(encoder=name))
    rates = [block.stochastic_depth.p for index in (1, 3, 5, 7) for block in encoder.features[index]]
    assert rates == pytest.approx([last * i / (len(rates) - 1) for i in range(len(rates))])
