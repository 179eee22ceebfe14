"""The CVPR 2020 network against its published names, an independent forward pass, and files of its weights."""

import hashlib
import pickle
from types import ModuleType

import pytest
import torch
from torch.nn import functional

from model import DepthNet, ModelConfig
from model.sgr_checkpoint import SGR_CONFIG, SGR_SIZE_HW, read_sgr_checkpoint

# Of the official names and shapes, one "name AxBxCxD" or "name scalar" a line, sorted.
OFFICIAL_SHA256 = "cd79a7a876a696ba58b315d3571eea0498910fcd7e9186bd8938d2290e06acb7"
STAGES = ((1, 3, 64), (2, 4, 128), (3, 6, 256), (4, 3, 512))  # number, blocks, inner width


def official_shapes():
    """Names and shapes by rule: ResNet-50, then four FTBs and more convolutions."""
    shapes = {}

    def norm(name, width):
        shapes.update({f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")})
        shapes[f"{name}.num_batches_tracked"] = ()

    def conv(name, outputs, inputs, kernel=3, bias=True):
        shapes[f"{name}.weight"] = (outputs, inputs, kernel, kernel)
        if bias:
            shapes[f"{name}.bias"] = (outputs,)

    def ftb(name, inputs, width):
        conv(f"{name}.conv1", width, inputs)
        conv(f"{name}.conv_branch.1", width, width)
        norm(f"{name}.conv_branch.2", width)
        conv(f"{name}.conv_branch.4", width, width)

    conv("encoder.conv1", 64, 3, 7, bias=False)
    norm("encoder.bn1", 64)
    inputs = 64
    for number, blocks, width in STAGES:
        for block in range(blocks):
            name = f"encoder.layer{number}.{block}"
            sizes = ((width, inputs, 1), (width, width, 3), (4 * width, width, 1))
            for part, (outputs, before, kernel) in enumerate(sizes, 1):
                conv(f"{name}.conv{part}", outputs, before, kernel, bias=False)
                norm(f"{name}.bn{part}", outputs)
            if block == 0:
                conv(f"{name}.downsample.0", 4 * width, inputs, 1, bias=False)
                norm(f"{name}.downsample.1", 4 * width)
            inputs = 4 * width
    ftb("decoder.conv", 2048, 512)
    conv("decoder.conv1", 256, 512)
    for number, inputs in ((2, 1024), (1, 512), (0, 256)):
        ftb(f"decoder.ffm{number}.ftb1", inputs, 256)
        ftb(f"decoder.ffm{number}.ftb2", 256, 256)
    conv("decoder.outconv.adapt_conv.0", 128, 256)
    norm("decoder.outconv.adapt_conv.1", 128)
    conv("decoder.outconv.adapt_conv.3", 1, 128)
    return shapes


def official_forward(state, x):
    """Inverse depth of a normalised picture, straight from the tensors and the facts on the official code."""

    def conv(x, name, stride=1):
        weight = state[f"{name}.weight"]
        return functional.conv2d(x, weight, state.get(f"{name}.bias"), stride=stride, padding=weight.shape[-1] // 2)

    def norm(x, name):
        weight, bias, mean, variance = (
            state[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    def ftb(x, name):
        rectified = conv(x, f"{name}.conv1").relu()
        inner = norm(conv(rectified, f"{name}.conv_branch.1"), f"{name}.conv_branch.2").relu()
        return (rectified + conv(inner, f"{name}.conv_branch.4")).relu()

    def double(x):
        size = (2 * x.shape[-2], 2 * x.shape[-1])
        return functional.interpolate(x, size, mode="bilinear", align_corners=True)

    x = norm(conv(x, "encoder.conv1", stride=2), "encoder.bn1").relu()
    x = functional.max_pool2d(x, 3, 2, 1)
    stages = []
    for number, blocks, _ in STAGES:
        for block in range(blocks):
            name, stride = f"encoder.layer{number}.{block}", 2 if number > 1 and block == 0 else 1
            inner = norm(conv(x, f"{name}.conv1"), f"{name}.bn1").relu()
            inner = norm(conv(inner, f"{name}.conv2", stride), f"{name}.bn2").relu()
            inner = norm(conv(inner, f"{name}.conv3"), f"{name}.bn3")
            if block == 0:
                x = norm(conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
            x = (x + inner).relu()
        stages.append(x)
    x = double(conv(ftb(stages[3], "decoder.conv"), "decoder.conv1"))
    for number in (2, 1, 0):
        x = double(ftb(ftb(stages[number], f"decoder.ffm{number}.ftb1") + x, f"decoder.ffm{number}.ftb2"))
    x = norm(conv(x, "decoder.outconv.adapt_conv.0"), "decoder.outconv.adapt_conv.1").relu()
    return double(conv(x, "decoder.outconv.adapt_conv.3"))[:, 0]


def random_state(shapes, *, repeated=False):
    """Random weights, with random statistics in the norms; `repeated` along the inputs, which makes files small."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in shapes.items():
        is_norm = f"{name.rpartition('.')[0]}.running_var" in shapes
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1000)
        elif len(shape) == 4:
            outputs, inputs, height, width = shape
            drawn = torch.randn(outputs, 1 if repeated else inputs, height, width, generator=generator)
            fan_in = (inputs**2 if repeated else inputs) * height * width
            state[name] = (drawn * fan_in**-0.5).expand(shape)
        elif is_norm and name.endswith(("running_var", "weight")):
            state[name] = 0.5 + torch.rand(shape, generator=generator)
        else:
            state[name] = 0.3 * torch.randn(shape, generator=generator)
    return state


def reference(state, image):
    mean, std = (torch.tensor(v).double().view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        return official_forward({name: tensor.double() for name, tensor in state.items()}, (image - mean) / std)


def predict(net, state, image):
    net.load_state_dict(state)
    with torch.inference_mode():
        return net.eval()(image)


@pytest.fixture(scope="module")
def image():
    return torch.rand(1, 3, 64, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def official():
    """The network in full size, weights for it, and what they should predict."""
    return DepthNet(SGR_CONFIG).double(), random_state(official_shapes(), repeated=True)


def slim(**changes):
    config = {"name": "sgr", "encoder": "resnet50", "encoder_width": 16, "decoder_channels": 16}
    return DepthNet(ModelConfig(**config, **changes)).double()


def expanded(**changes):
    """A state dict of the official shapes that takes next to no room: each tensor is one number, repeated."""
    state = {
        name: torch.tensor(7) if name.endswith("tracked") else torch.tensor(0.1).expand(shape)
        for name, shape in official_shapes().items()
    }
    return {f"module.{name}": tensor for name, tensor in (state | changes).items()}


def test_names_and_shapes_are_the_official_ones():
    with torch.device("meta"):
        net = DepthNet(SGR_CONFIG)
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    assert shapes == official_shapes()
    lines = sorted(f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in shapes.items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == OFFICIAL_SHA256
    assert sum(parameter.numel() for parameter in net.parameters()) == 52_126_529


@pytest.mark.parametrize(
    ("changes", "same"),
    [({}, True), ({"encoder_variant": "v1"}, False), ({"residual": "plain"}, False), ({"encoder_bn_eps": 1e-3}, False)],
)
def test_the_network_and_no_variant_of_it_computes_what_the_official_code_computes(image, changes, same):
    net = slim(**changes)
    state = random_state({name: tuple(tensor.shape) for name, tensor in net.state_dict().items()})
    expected = reference(state, image)
    error = (predict(net, state, image) - expected).abs().max() / expected.std()
    assert error < 1e-9 if same else error > 1e-3


class Python2Pickler(pickle._Pickler):
    """Writes text as Python 2 wrote its byte strings; the official file comes from a time of Python 2."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_str(self, text):
        data = text.encode("ascii")
        self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) + data)
        self.memoize(text)

    dispatch[str] = save_str


def save_as_python_2(block, path):
    module = ModuleType("python_2")
    module.Pickler = Python2Pickler
    module.dump = lambda value, file, protocol: Python2Pickler(file, protocol).dump(value)
    torch.save(block, path, pickle_module=module, _use_new_zipfile_serialization=False)
    assert b"U\nstate_dict" in path.read_bytes()[:500]


@pytest.mark.parametrize("form", ["zip", "legacy", "python 2"])
def test_a_file_of_official_weights_predicts_what_the_official_code_predicts(tmp_path, official, image, form):
    net, weights = official
    path = tmp_path / "model.pth.tar"
    block = {"state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}, "epoch": 50}
    if form == "python 2":
        save_as_python_2(block, path)
    else:
        torch.save(block, path, _use_new_zipfile_serialization=form == "zip")
    expected = reference(weights, image)
    assert expected.std() > 1e-3
    prediction = predict(net, read_sgr_checkpoint(path), image)
    torch.testing.assert_close(prediction, expected, rtol=1e-9, atol=1e-9 * expected.std().item())


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("outer", [False, True])
def test_prefix_and_outer_mapping_may_be_absent(tmp_path, prefix, outer):
    state = {f"{prefix}{name.removeprefix('module.')}": tensor for name, tensor in expanded().items()}
    torch.save({"state_dict": state} if outer else state, tmp_path / "model.pt")
    read = read_sgr_checkpoint(tmp_path / "model.pt")
    assert {name: tuple(tensor.shape) for name, tensor in read.items()} == official_shapes()
    assert SGR_SIZE_HW == (448, 448)


def test_counters_that_old_versions_of_torch_lack_become_zero(tmp_path):
    state = {name: tensor for name, tensor in expanded().items() if not name.endswith("tracked")}
    torch.save({"state_dict": state}, tmp_path / "model.pth.tar")
    read = read_sgr_checkpoint(tmp_path / "model.pth.tar")
    assert read["encoder.bn1.num_batches_tracked"] == 0
    assert len(read) == len(official_shapes())


def without(name):
    return {key: tensor for key, tensor in expanded().items() if key != f"module.{name}"}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "lacks"),
        ({"weight": torch.zeros(2)}, "lacks .* has the unknown 1 tensors"),
        (without("decoder.conv1.bias"), "lacks 1 tensors .'decoder.conv1.bias'"),
        (expanded(extra=torch.zeros(1)), "has the unknown 1 tensors .'extra'"),
        (expanded(**{"decoder.conv1.bias": torch.zeros(255)}), "another shape of 1 tensors .'decoder.conv1.bias'"),
        (expanded(**{"decoder.conv1.bias": torch.zeros(256).int()}), "no real numbers in 1 tensors"),
        (expanded(**{"decoder.conv1.bias": torch.zeros(256, device="meta")}), "other things than tensors"),
        (expanded(**{"decoder.conv1.bias": [0.0] * 256}), "other things than tensors"),
        (expanded() | {"encoder.conv1.weight": torch.zeros(1)}, "lacks"),
    ],
)
def test_other_tensors_are_refused_by_name(tmp_path, state, message):
    torch.save({"state_dict": state}, tmp_path / "model.pth.tar")
    with pytest.raises(ValueError, match=message) as error:
        read_sgr_checkpoint(tmp_path / "model.pth.tar")
    assert "model.pth.tar" in str(error.value) and "\n" not in str(error.value)
