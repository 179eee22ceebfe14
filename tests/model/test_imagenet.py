from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model, get_model_weights

from model import ModelConfig
from model.encoders import build_encoder
from model.imagenet import load_encoder

BOTTLENECKS = ("resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d")


def loaded(**settings):
    config = ModelConfig(**settings)
    encoder = build_encoder(config)
    load_encoder(encoder, config)
    return encoder


def refuse(message, **settings):
    config = ModelConfig(**settings)
    with torch.device("meta"):  # nothing is to be loaded, so no weights are drawn
        encoder = build_encoder(config)
    with pytest.raises(ValueError, match=message):
        load_encoder(encoder, config)


@cache
def random_state(name, seed=0):
    """Tensors of torchvision's whole network, in fp16 to keep the files small."""
    with torch.device("meta"):
        net = get_model(name, weights=None)
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.rand(tensor.shape, generator=generator).half() if tensor.is_floating_point() else torch.tensor(7)
        for key, tensor in net.state_dict().items()
    }


def assert_holds(encoder, state):
    for key, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, state[key].to(tensor.dtype)), key


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of torchvision's weights, and no way out to fill it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("resnet18", ".pth"),
        ("resnet18", ".safetensors"),
        ("convnext_tiny", ".safetensors"),
        ("mobilenet_v3_large", ".pth"),
    ],
)
def test_a_file_of_the_whole_network_fills_the_encoder(tmp_path, name, suffix):
    path, state = tmp_path / f"whole{suffix}", random_state(name)
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    assert_holds(loaded(encoder=name, encoder_weights=str(path)), state)


def test_wrapped_files_are_unwrapped(tmp_path):
    path, state = tmp_path / "wrapped.pt", random_state("mobilenet_v3_large")
    torch.save({"epoch": 3, "state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}, path)
    assert_holds(loaded(encoder="mobilenet_v3_large", encoder_weights=str(path)), state)


def test_a_file_without_counters_of_batches_starts_them_at_zero(tmp_path):
    path, state = tmp_path / "old.pth", random_state("resnet18")
    counters = {key: torch.zeros(()) for key in state if key.endswith("num_batches_tracked")}
    torch.save({key: tensor for key, tensor in state.items() if key not in counters}, path)
    assert counters
    assert_holds(loaded(encoder="resnet18", encoder_weights=str(path)), state | counters)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s | {"fc.extra": torch.zeros(1)}, r"unknown 1 tensors .*fc\.extra"),
        (lambda s: s | {"layer5.0.weight": torch.zeros(1)}, r"unknown 1 tensors .*layer5\.0\.weight"),
        (lambda s: s | {"module.fc.bias": torch.zeros(1)}, r"unknown 1 tensors .*module\.fc\.bias"),
        (lambda s: s | {"classifier.0.weight": torch.zeros(1)}, r"unknown 1 tensors .*classifier"),
        (lambda s: {k: v for k, v in s.items() if k != "bn1.num_batches_tracked"}, r"lacks 1 tensors .*bn1\.num_ba"),
        (lambda s: {k: v for k, v in s.items() if k != "layer1.0.bn1.bias"}, r"lacks 1 tensors .*layer1\.0\.bn1\.bias"),
        (lambda s: s | {"layer4.1.bn2.bias": torch.zeros(3)}, r"another shape of 1 tensors .*layer4\.1\.bn2\.bias"),
        (lambda s: s | {"conv1.weight": torch.zeros(32, 3, 7, 7)}, "width 32; set encoder_width to it"),
    ],
)
def test_everything_but_the_classifier_must_fit(tmp_path, change, message):
    path = tmp_path / "encoder.pth"
    torch.save(change(random_state("resnet18")), path)
    refuse(message, encoder="resnet18", encoder_weights=str(path))


def test_the_file_of_another_encoder_is_refused(tmp_path):
    path = tmp_path / "resnet18.safetensors"
    save_file(random_state("resnet18"), path)
    refuse(r"does not fit encoder resnet34.*lacks", encoder="resnet34", encoder_weights=str(path))


def test_a_narrow_encoder_takes_the_file_of_a_narrow_encoder(tmp_path):
    path = tmp_path / "narrow.safetensors"
    narrow = build_encoder(ModelConfig(encoder="resnet18", encoder_width=32)).state_dict()
    save_file(narrow, path)
    assert_holds(loaded(encoder="resnet18", encoder_width=32, encoder_weights=str(path)), narrow)


@pytest.mark.parametrize(
    ("facts", "settings", "message"),
    [
        ({"stride": "1x1"}, {}, "set encoder_variant to v1"),
        ({"stride": "3x3"}, {"encoder_variant": "v1"}, r"set encoder_variant to v1\.5"),
        ({"bn_eps": "1.001e-5"}, {}, r"epsilon 1\.001e-05; set encoder_bn_eps"),
        ({"bn_eps": "1e-5"}, {"encoder_bn_eps": 1e-3}, r"epsilon 1e-05; set encoder_bn_eps"),
        ({"stride": "2x2"}, {}, "stride '2x2' in its metadata is neither 1x1 nor 3x3"),
        ({"bn_eps": "small"}, {}, "bn_eps 'small' in its metadata is not a number"),
        ({"bn_eps": "0.00001", "stride": "3x3"}, {}, None),
        ({"bn_eps": "1.001e-5", "stride": "1x1"}, {"encoder_variant": "v1", "encoder_bn_eps": 1.001e-5}, None),
    ],
)
def test_settings_must_be_those_that_the_file_was_trained_with(tmp_path, facts, settings, message):
    path, state = tmp_path / "converted.safetensors", random_state("resnet18")
    save_file(state, path, metadata=facts)
    settings = {"encoder": "resnet18", "encoder_weights": str(path)} | settings
    if message is None:
        assert_holds(loaded(**settings), state)
    else:
        refuse(message, **settings)


@pytest.mark.parametrize("name", ["broken.safetensors", "broken.pth", "folder/broken"])
@pytest.mark.parametrize("exists", [True, False])
def test_an_unreadable_file_is_named(tmp_path, name, exists):
    path = tmp_path / name
    if exists:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"not tensors")
    refuse(f"cannot read weights from {path}", encoder="resnet18", encoder_weights=str(path))


@pytest.mark.parametrize(
    ("encoder", "given", "message"),
    [
        ("resnet50", "IMAGENET1K_V3", r"mean IMAGENET1K_V\d\?.*there are imagenet, IMAGENET1K_V1, IMAGENET1K_V2, or"),
        ("mobilenet_v3_large", "imagenet1k_v2", r"did you mean IMAGENET1K_V2\?"),
        ("resnet50", "ResNet50_Weights.IMAGENET1K_V2", r"did you mean IMAGENET1K_V2\?"),
        ("resnet18", "DEFAULT", r"no weights 'DEFAULT' for resnet18; there are imagenet, IMAGENET1K_V1, or give"),
        ("convnext_tiny", "IMAGENET1K_V2", r"did you mean IMAGENET1K_V1\?"),
    ],
)
def test_an_unknown_name_is_answered_with_the_known_ones(hub, encoder, given, message):
    refuse(message, encoder=encoder, encoder_weights=given)


def test_a_folder_called_imagenet_is_not_the_weights(hub, tmp_path, monkeypatch):
    (tmp_path / "imagenet").mkdir()
    monkeypatch.chdir(tmp_path)
    refuse("cannot get torchvision's resnet18 IMAGENET1K_V1", encoder="resnet18", encoder_weights="imagenet")


@pytest.mark.parametrize(
    ("given", "taken"),
    [("imagenet", "IMAGENET1K_V1"), ("IMAGENET1K_V1", "IMAGENET1K_V1"), ("IMAGENET1K_V2", "IMAGENET1K_V2")],
)
def test_a_name_takes_that_set_of_torchvision(hub, given, taken):
    states = {
        w.name: random_state("mobilenet_v3_large", i) for i, w in enumerate(get_model_weights("mobilenet_v3_large"))
    }
    for weights in get_model_weights("mobilenet_v3_large"):
        torch.save(states[weights.name], hub / Path(weights.url).name)
    assert_holds(loaded(encoder="mobilenet_v3_large", encoder_weights=given), states[taken])


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_torchvisions_weights_are_not_for_v1(hub, name):
    refuse(r"are for encoder_variant v1\.5, not v1", encoder=name, encoder_weights="imagenet", encoder_variant="v1")


def test_a_resnet_without_bottlenecks_is_the_same_in_v1(hub):
    state = random_state("resnet18")
    path = hub / Path(get_model_weights("resnet18")["IMAGENET1K_V1"].url).name
    torch.save(state, path, _use_new_zipfile_serialization=False)  # the format of torchvision's older files
    assert_holds(loaded(encoder="resnet18", encoder_weights="imagenet", encoder_variant="v1"), state)


@pytest.mark.parametrize("content", [b"", b"not tensors", b"PK\x03\x04 a zip cut short"])
def test_a_broken_file_in_the_cache_is_told(hub, content):
    (hub / Path(get_model_weights("resnet18")["IMAGENET1K_V1"].url).name).write_bytes(content)
    refuse("cannot get torchvision's resnet18 IMAGENET1K_V1", encoder="resnet18", encoder_weights="imagenet")


def test_torchvisions_weights_are_not_for_a_narrow_encoder(hub):
    refuse(
        "are for encoder_width 64, not 32; set it to 64, or encoder_weights to none",
        encoder="resnet18",
        encoder_weights="imagenet",
        encoder_width=32,
    )


def test_the_published_imagenet_weights_fit(real_data):
    path = str(real_data / "weights" / "resnet50_imagenet_v1.safetensors")
    encoder = loaded(encoder="resnet50", encoder_weights=path, encoder_variant="v1", encoder_bn_eps=1.001e-5).eval()
    with torch.inference_mode():
        stages = encoder(torch.randn(1, 3, 96, 96))
    assert all(torch.isfinite(stage).all() for stage in stages)
    assert {norm.eps for norm in encoder.batch_norms()} == {1.001e-5}
    refuse("set encoder_variant to v1", encoder="resnet50", encoder_weights=path)
