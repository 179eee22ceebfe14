"""A network as one ONNX file for any batch and size, and the proof that it computes the same.

    export_onnx(net, Path("model.onnx"))
    rows = compare_with_torch(net, Path("model.onnx"), PARITY_SHAPES)
    require_parity(rows)

Input `image`: (batch, 3, height, width) float32, RGB in 0..1. Output `inverse_depth`: (batch, height, width) float32.
Normalisation and padding to the network's stride are part of the graph. Needs the extra `onnx`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch

from model.depthnet import DepthNet

__all__ = ["PARITY_LIMIT", "PARITY_SHAPES", "Parity", "compare_with_torch", "export_onnx", "require_parity"]

OPSET = 18
"""The oldest that the exporter of torch writes, so that the most runtimes read it."""
LOWEST_TORCH = (2, 8)
"""The oldest that it was tried with; the exporter of 2.6 cannot translate a padding that depends on the size."""
PARITY_SHAPES = ((1, 64, 64), (3, 97, 131), (1, 384, 512))
"""Batch, height and width: a small square, a batch that needs padding on both sides, and a usual photograph."""
PARITY_LIMIT = 1e-4
"""Largest difference that is called the same, as a share of the range of torch's output."""

# A size of which no side is a multiple of the stride, nor equal to another: nothing of it can end up as a constant.
_EXAMPLE_SHAPE = (2, 3, 97, 131)


class Parity(NamedTuple):
    """How far ONNX Runtime is from torch on one batch of noise."""

    shape: tuple[int, int, int]
    """Batch, height, width."""
    difference: float
    """Largest absolute difference."""
    relative: float
    """The same as a share of the range (largest minus smallest value) of torch's output."""


def export_onnx(net: DepthNet, path: Path) -> None:
    """Write the network to one self-contained file.

    Args:
        net: On the CPU, in evaluation mode.
        path: Where to; an existing file is replaced.

    Raises:
        ValueError: The extra `onnx` is not installed, or this torch cannot export the network.
        OSError: The file cannot be written.
    """
    onnx = _onnx()
    try:
        program: Any = torch.onnx.export(
            net,
            (torch.zeros(_EXAMPLE_SHAPE),),
            dynamo=True,
            input_names=["image"],
            output_names=["inverse_depth"],
            dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
            opset_version=OPSET,
            verbose=False,
        )
        model = program.model_proto
        _describe(model, net)
        onnx.checker.check_model(model)
    except Exception as error:  # the exporter lets through whatever goes wrong on its long way
        raise ValueError(
            f"torch {torch.__version__} cannot export this network to ONNX ({_one_line(error)}); "
            'a newer torch or onnxscript may: pip install --upgrade "depthrank[onnx]"'
        ) from error
    path.write_bytes(model.SerializeToString())


def compare_with_torch(net: DepthNet, path: Path, shapes: Sequence[tuple[int, int, int]]) -> list[Parity]:
    """Run the file by ONNX Runtime and the network by torch on the same noise, on the CPU.

    Args:
        net: On the CPU, in evaluation mode.
        path: Its ONNX file.
        shapes: Batch, height and width of each batch.

    Raises:
        ValueError: ONNX Runtime is not installed, or cannot run the file at one of the shapes.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise _missing_extra(error) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; it warns of what it optimises
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common root of their own
        raise ValueError(f"ONNX Runtime cannot open {path.name}: {_one_line(error)}") from error
    random = torch.Generator().manual_seed(0)
    rows = []
    for batch, height, width in shapes:
        image = torch.rand(batch, 3, height, width, generator=random)
        try:
            (output,) = session.run(["inverse_depth"], {"image": image.numpy()})
        except Exception as error:
            shown = f"{batch} x 3 x {height} x {width}"
            raise ValueError(f"ONNX Runtime cannot run {path.name} on {shown}: {_one_line(error)}") from error
        with torch.inference_mode():
            rows.append(_parity(net(image), torch.from_numpy(output)))
    return rows


def require_parity(rows: Sequence[Parity]) -> None:
    """Make sure that the differences are rounding.

    Raises:
        ValueError: One is more than `PARITY_LIMIT` of its output's range, or not a number.
    """
    for (batch, height, width), _, relative in rows:
        if not relative <= PARITY_LIMIT:  # written so that NaN does not pass
            raise ValueError(
                f"the ONNX graph does not compute what torch computes: on {batch} x 3 x {height} x {width} they are "
                f"{relative:.1e} of the output's range apart, and at most {PARITY_LIMIT:.0e} is rounding"
            )


def _parity(expected: torch.Tensor, output: torch.Tensor) -> Parity:
    if output.shape != expected.shape:
        raise ValueError(f"the output has the shape {tuple(output.shape)} instead of {tuple(expected.shape)}")
    batch, height, width = expected.shape
    difference = float((output - expected).abs().max())
    spread = float(expected.max() - expected.min())
    return Parity((batch, height, width), difference, difference / spread if spread else difference)


def _describe(model: Any, net: DepthNet) -> None:
    """Say what goes in and comes out, and nothing of the machine: the exporter notes source files at every node."""
    graph = model.graph
    del graph.value_info[:]
    functions = [*model.functions, *(node for function in model.functions for node in function.node)]
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer, *functions):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    # The exporter knows the output's size as a formula of the input's; it is the same size.
    for dimension, name in zip(graph.output[0].type.tensor_type.shape.dim, ("batch", "height", "width"), strict=True):
        dimension.Clear()
        dimension.dim_param = name
    model.doc_string = "Relative inverse depth of a photograph, larger = nearer, up to a monotone map."
    facts = {
        "input": "image: (batch, 3, height, width) float32, RGB in 0..1, any size",
        "output": "inverse_depth: (batch, height, width) float32, larger = nearer, up to a monotone map",
        "training_size_hw": f"{net.size_hw[0]} {net.size_hw[1]}",
        "network": json.dumps(net.config.model_copy(update={"encoder_weights": "none"}).model_dump(mode="json")),
    }
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)


def _onnx() -> ModuleType:
    """The package `onnx`, with all that an export needs beside it."""
    try:
        import onnx
        import onnxscript  # noqa: F401  # the exporter imports it late, and says so less clearly
    except ImportError as error:
        raise _missing_extra(error) from error
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < LOWEST_TORCH:
        needed = ".".join(map(str, LOWEST_TORCH))
        raise ValueError(f"the export to ONNX needs torch {needed} or newer; this is torch {torch.__version__}")
    return onnx


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _missing_extra(error: ImportError) -> ValueError:
    return ValueError(f'ONNX needs packages that are not installed ({error}): pip install "depthrank[onnx]"')
