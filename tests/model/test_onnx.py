import sys

import pytest
import torch
from torch import nn

from model import DepthNet, ModelConfig
from model.onnx_export import (
    LOWEST_TORCH,
    PARITY_SHAPES,
    compare_with_torch,
    export_onnx,
    require_parity,
)

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])
can_export = pytest.mark.skipif(TORCH < LOWEST_TORCH, reason="the exporter of this torch is too old")


class Mean(nn.Module):
    """Stands for a network of which the ONNX graph is known: the mean of the channels."""

    def forward(self, image):
        return image.mean(1)


def write_mean(path, *, scale: float = 1.0, keepdims: int = 0) -> None:
    """A hand-made ONNX file: scale times the mean of the channels."""
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    axes = ["batch", "height", "width"]
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=keepdims),
            helper.make_node("Mul", ["mean", "scale"], ["inverse_depth"]),
        ],
        "mean",
        [helper.make_tensor_value_info("image", float32, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info("inverse_depth", float32, axes if not keepdims else ["batch", 1, *axes[1:]])],
        [
            helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [1]),
            helper.make_tensor("scale", float32, [], [scale]),
        ],
    )
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    )


def test_the_same_function_is_the_same_within_rounding(tmp_path):
    write_mean(tmp_path / "m.onnx")
    rows = compare_with_torch(Mean(), tmp_path / "m.onnx", PARITY_SHAPES)
    assert [row.shape for row in rows] == list(PARITY_SHAPES)
    assert all(row.relative < 1e-6 for row in rows)
    require_parity(rows)
    with pytest.raises(ValueError, match="does not compute"):
        require_parity([*rows, rows[0]._replace(relative=float("nan"))])


def test_another_function_is_found_and_measured_in_shares_of_the_range(tmp_path):
    write_mean(tmp_path / "m.onnx", scale=1.001)
    (row,) = compare_with_torch(Mean(), tmp_path / "m.onnx", [(2, 40, 50)])
    image = torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(0)).double().mean(1)
    assert row.difference == pytest.approx(float(image.max()) * 0.001, rel=1e-3)
    assert row.relative == pytest.approx(row.difference / float(image.max() - image.min()), rel=1e-3)
    with pytest.raises(ValueError, match="on 2 x 3 x 40 x 50 they are 1"):
        require_parity([row])


def test_a_file_that_cannot_be_run_or_gives_another_shape_is_one_clear_error(tmp_path):
    path = tmp_path / "m.onnx"
    write_mean(path, keepdims=1)
    with pytest.raises(ValueError, match=r"shape \(1, 1, 8, 9\) instead of \(1, 8, 9\)"):
        compare_with_torch(Mean(), path, [(1, 8, 9)])
    path.write_bytes(b"no graph")
    with pytest.raises(ValueError, match=r"cannot open m\.onnx"):
        compare_with_torch(Mean(), path, [(1, 8, 9)])


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_names_the_extra(package, monkeypatch, tmp_path):
    def use_it() -> None:
        if package == "onnxruntime":
            compare_with_torch(Mean(), tmp_path / "m.onnx", [(1, 8, 9)])
        else:
            export_onnx(Mean(), tmp_path / "m.onnx")

    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=r'pip install "depthrank\[onnx\]"'):
        use_it()
    assert not list(tmp_path.iterdir())


@can_export
@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"name": "redweb", "encoder": "resnet50", "encoder_variant": "v1"},
        {"name": "redweb", "encoder": "mobilenet_v3_large"},
        {"name": "sgr", "encoder": "resnet18", "encoder_width": 8},
        {"name": "sgr", "encoder": "convnext_tiny"},
        {"name": "midas", "encoder": "resnext50_32x4d"},
        {"name": "midas", "encoder": "resnet18", "encoder_width": 8, "output_relu": True},
    ],
    ids=lambda settings: f"{settings['name']}-{settings['encoder']}",
)
def test_every_network_exports_and_computes_the_same_at_any_size(settings, tmp_path):
    torch.manual_seed(0)
    net = DepthNet.from_config(ModelConfig(decoder_channels=8, **settings)).eval()
    export_onnx(net, tmp_path / "m.onnx")
    rows = compare_with_torch(net, tmp_path / "m.onnx", [*PARITY_SHAPES, (1, 1, 7), (2, 32, 33)])
    require_parity(rows)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"], "one self-contained file"
