import pytest
import torch
from torch.nn import functional

from model import DepthNet, ModelConfig
from model.decoders import build_decoder
from model.decoders.fusion import FusionDecoder
from model.decoders.guided import FTB, GuidedDecoder
from model.decoders.layers import double, gaussian_conv

NAMES = ("redweb", "sgr", "midas")
STAGE_CHANNELS = (6, 8, 10, 12)


def small(name, **changes):
    return ModelConfig(name=name, encoder="resnet18", decoder_channels=16, **changes)


def random_stages(*, size=(4, 5), dtype=torch.float64):
    """Four maps of which each is twice as large as the next."""
    return [
        torch.randn(2, channels, size[0] * 8 // scale, size[1] * 8 // scale, dtype=dtype)
        for channels, scale in zip(STAGE_CHANNELS, (1, 2, 4, 8), strict=True)
    ]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def with_biases(decoder):
    """In float64, with biases other than the zeros they start from."""
    for name, parameter in decoder.double().named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return decoder


def doubling_matrix(size, *, align_corners):
    """(2n, n): where each sample of a doubled row lies among the old ones, which it weighs by distance."""
    new = torch.arange(2 * size, dtype=torch.float64)
    place = new * (size - 1) / (2 * size - 1) if align_corners else ((new + 0.5) / 2 - 0.5).clamp(0, size - 1)
    return (1 - (place[:, None] - torch.arange(size, dtype=torch.float64)).abs()).clamp(min=0)


def reference_double(x, *, align_corners):
    rows, columns = (doubling_matrix(n, align_corners=align_corners) for n in x.shape[-2:])
    return rows @ x @ columns.T


def reference_fusion(state, stages, *, rectified, align_corners):
    """From the facts on CVPR 2018 and MiDaS v2: a stage's conv and residual block, then sum, block, doubling."""

    def conv(x, name):
        weight = state[f"{name}.weight"]
        return functional.conv2d(x, weight, state.get(f"{name}.bias"), padding=weight.shape[-1] // 2)

    def block(x, name):
        identity = x.clamp(min=0) if rectified else x
        return identity + conv(conv(x.clamp(min=0), f"{name}.conv1").clamp(min=0), f"{name}.conv2")

    laterals = [block(conv(stage, f"transitions.{i}"), f"lateral.{i}") for i, stage in enumerate(stages)]
    merged = reference_double(laterals[3], align_corners=align_corners)
    for i in (2, 1, 0):
        merged = reference_double(block(laterals[i] + merged, f"fusion.{i}"), align_corners=align_corners)
    return merged, conv


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 4), (3, 5)])
def test_doubling_is_bilinear(size, align_corners):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    doubled = double(x, align_corners=align_corners)
    torch.testing.assert_close(doubled, reference_double(x, align_corners=align_corners))


@pytest.mark.parametrize("rectified", [False, True])
def test_redweb_is_its_formula(rectified):
    decoder = with_biases(FusionDecoder(STAGE_CHANNELS, channels=8, rectified=rectified))
    stages = random_stages()
    merged, conv = reference_fusion(decoder.state_dict(), stages, rectified=rectified, align_corners=False)
    expected = reference_double(conv(conv(merged, "output.0"), "output.1"), align_corners=False)
    torch.testing.assert_close(decoder(stages), expected[:, 0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("output_relu", [False, True])
def test_midas_is_its_formula(rectified, output_relu):
    decoder = with_biases(
        FusionDecoder(STAGE_CHANNELS, channels=8, rectified=rectified, head="midas", output_relu=output_relu)
    )
    stages = random_stages()
    merged, conv = reference_fusion(decoder.state_dict(), stages, rectified=rectified, align_corners=True)
    head = reference_double(conv(merged, "output.0"), align_corners=False)
    expected = conv(conv(head, "output.2").clamp(min=0), "output.4")[:, 0]
    assert (expected < 0).any() and (expected > 0).any()
    expected = expected.clamp(min=0) if output_relu else expected
    torch.testing.assert_close(decoder(stages), expected, rtol=1e-10, atol=1e-10)


def test_saved_networks_of_redweb_still_fit():
    biased = [
        *(f"transitions.{i}" for i in range(4)),
        *(f"lateral.{i}.conv{j}" for i in range(4) for j in (1, 2)),
        *(f"fusion.{i}.conv{j}" for i in range(3) for j in (1, 2)),
        "output.0",
        "output.1",
    ]
    names = {f"{name}.{kind}" for name in biased for kind in ("weight", "bias")}
    assert build_decoder(small("redweb"), STAGE_CHANNELS).state_dict().keys() == names


def test_midas_has_the_published_shapes():
    with torch.device("meta"):
        state = build_decoder(ModelConfig(name="midas"), (256, 512, 1024, 2048)).state_dict()
    assert not any(name.startswith("transitions") and name.endswith("bias") for name in state)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if name.startswith("output")}
    assert shapes == {
        "output.0.weight": (128, 256, 3, 3),
        "output.0.bias": (128,),
        "output.2.weight": (32, 128, 3, 3),
        "output.2.bias": (32,),
        "output.4.weight": (1, 32, 1, 1),
        "output.4.bias": (1,),
    }


@pytest.mark.parametrize(
    ("name", "residual", "rectified"),
    [
        ("redweb", None, False),
        ("redweb", "rectified", True),
        ("sgr", None, True),
        ("sgr", "plain", False),
        ("midas", None, True),
        ("midas", "plain", False),
    ],
)
def test_each_network_has_its_own_residual_unless_told_otherwise(name, residual, rectified):
    decoder = build_decoder(small(name, residual=residual), STAGE_CHANNELS)
    assert {module.rectified for module in decoder.modules() if hasattr(module, "rectified")} == {rectified}


@pytest.mark.parametrize("rectified", [False, True])
def test_the_ftb_is_its_formula_and_leaves_its_input_alone(rectified):
    block = FTB(3, 4, rectified=rectified).eval()
    x = torch.randn(1, 3, 8, 8)
    before = x.clone()
    y = block.conv1(x)
    branch = functional.conv2d(y.relu(), block.conv_branch[0].weight, padding=1) / (1 + 1e-5) ** 0.5
    branch = functional.conv2d(branch.relu(), block.conv_branch[3].weight, padding=1)
    torch.testing.assert_close(block(x), ((y.relu() if rectified else y) + branch).relu())
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", NAMES)
def test_weights_start_with_the_spread_that_the_config_names(name):
    for std in (None, 0.01):
        decoder = build_decoder(ModelConfig(name=name, decoder_channels=64, decoder_init_std=std), (64, 64, 64, 64))
        for module in decoder.modules():
            if isinstance(module, torch.nn.Conv2d) and module.weight.numel() > 1000:
                expected = std or (module.weight[0].numel()) ** -0.5
                assert module.weight.std().item() == pytest.approx(expected, rel=0.15)
                assert module.bias is None or not module.bias.any()


def test_a_convolution_without_bias_has_none():
    assert gaussian_conv(4, 4, bias=False).bias is None


@pytest.mark.parametrize("decoder", [FusionDecoder, GuidedDecoder])
def test_every_stage_and_every_weight_reaches_the_output(decoder):
    net = decoder(STAGE_CHANNELS, channels=8)
    stages = [stage.requires_grad_() for stage in random_stages(dtype=torch.float32)]
    net(stages).square().sum().backward()
    assert all(stage.grad is not None and stage.grad.any() for stage in stages)
    weights = [p for p in net.parameters() if p.ndim > 1]
    assert all(weight.grad is not None and weight.grad.any() for weight in weights)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 7), (33, 95), (64, 32)])
def test_any_size_goes_in_and_comes_out(name, size):
    net = DepthNet(small(name)).eval()
    assert net(torch.rand(2, 3, *size)).shape == (2, *size)


@pytest.mark.parametrize("name", NAMES)
def test_bf16_is_finite_and_near_the_full_precision(name):
    net = DepthNet(small(name)).eval()
    image = torch.rand(1, 3, 32, 64)
    with torch.inference_mode():
        full = net(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = net(image)
    assert half.isfinite().all()
    assert (half.float() - full).abs().mean() < 0.1 * full.abs().mean()
