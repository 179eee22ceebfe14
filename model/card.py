"""The model card: `README.md` of an exported network, in the form that the Hugging Face Hub shows.

    text = model_card(Facts(config, num_parameters=2_959_233, size_hw=(384, 384)), Training(step=1200))

It says what is known and leaves out what is not. Whatever comes from a run's files stands in code spans, in which
neither Markdown nor HTML means anything.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from model.card_usage import usage
from model.citations import citations
from model.config import LossConfig, ModelConfig

__all__ = ["Dataset", "Facts", "Training", "model_card"]

UNKNOWN_LICENSE = "unknown"
_LICENSE = re.compile(r"[a-z0-9](?:[a-z0-9.+-]{0,58}[a-z0-9+])?")
_TEXT_LIMIT = 200

_DECODERS = {
    "redweb": "residual multi-scale fusion with an adaptive output (Xian et al., CVPR 2018, Fig. 4)",
    "sgr": "guided fusion by residual blocks and an adaptive output (Xian et al., CVPR 2020, its official code)",
    "midas": "residual multi-scale fusion with the deeper head of MiDaS (Ranftl et al.)",
}
_LOSSES = {
    "ranking": "ranking loss on ordinal pairs (Xian et al., CVPR 2018, Eq. 3)",
    "improved_ranking": "ranking loss on the equal and the hardest {hard_share:.0%} of the unequal ordinal pairs "
    "(Xian et al., CVPR 2018)",
    "mae": "mean absolute error on disparity normalised per picture",
    "mse": "mean squared error on disparity normalised per picture",
    "ssi_mae": "mean absolute error after alignment by median and mean deviation (Ranftl et al.)",
}
_FIGURES = {
    "val/whdr": "WHDR: share of the pairs ordered wrongly, lower is better",
    "val/pairs": "pairs judged",
}


@dataclass(frozen=True)
class Facts:
    """What is known of every network."""

    config: ModelConfig
    num_parameters: int
    size_hw: tuple[int, int]
    """Height and width in pixels of the pictures that it was trained on."""
    license_id: str = UNKNOWN_LICENSE
    """The Hub's name of the licence of the weights, as their owner states it."""
    has_onnx: bool = False
    """Whether `model.onnx` lies beside the card."""


@dataclass(frozen=True)
class Dataset:
    """A dataset that was trained on."""

    name: str
    fingerprint: str | None = None
    """By which the very same shards are recognised."""
    num_samples: int | None = None


@dataclass(frozen=True)
class Training:
    """How the weights came about: None or empty is what nobody recorded."""

    step: int | None = None
    samples_seen: int | None = None
    hours: float | None = None
    hardware: str | None = None
    software: str | None = None
    datasets: tuple[Dataset, ...] = ()
    validated_on: str | None = None
    """Name of the dataset whose split `val` the figures are of."""
    loss: LossConfig | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    """More rows of the table of training: what, and the value."""
    latest: Mapping[str, float] = field(default_factory=dict)
    """Figures of the last evaluation by tag, with its `step`."""
    best: Mapping[str, float] = field(default_factory=dict)
    """The same of the best one."""


def model_card(facts: Facts, training: Training) -> str:
    """The card's text.

    Raises:
        ValueError: The licence is not the name of one.
    """
    if not _LICENSE.fullmatch(facts.license_id):
        raise ValueError(
            f"{facts.license_id!r} is no identifier of a licence as the Hugging Face Hub writes them, "
            "such as apache-2.0, mit, cc-by-nc-4.0, other, unknown"
        )
    parts = [
        _header(facts, training),
        _introduction(facts),
        usage(facts.size_hw, has_onnx=facts.has_onnx),
        "## Architecture\n\n" + _table(_architecture(facts)),
        "## Training\n\n" + _training(training),
        _evaluation(training),
        _limits(facts),
        _license(facts),
        "## Citation\n\n```bibtex\n" + citations(facts.config, training.loss) + "```\n",
    ]
    return "\n".join(part for part in parts if part)


def _header(facts: Facts, training: Training) -> str:
    """The YAML block that the Hub reads; everything in it is one of our words or matches a narrow pattern."""
    tags = ["monocular-depth", "relative-depth", facts.config.name, facts.config.encoder, "safetensors"]
    lines = [
        "---",
        f'license: "{facts.license_id}"',
        "library_name: depthrank",
        "pipeline_tag: depth-estimation",
        "tags:",
        *(f"- {tag}" for tag in [*tags, *(["onnx"] if facts.has_onnx else [])]),
        *(["metrics:", "- whdr"] if "val/whdr" in training.latest else []),
        "---",
    ]
    return "\n".join(lines) + "\n"


def _introduction(facts: Facts) -> str:
    config = facts.config
    return (
        f"# Relative depth from one photograph: {config.name}, {config.encoder}\n\n"
        "A network of DepthRank. For each pixel of a photograph it predicts relative *inverse* depth: **larger = "
        "nearer**,\ndefined up to a monotone map, so that it says which of two points is nearer and not how far away "
        "either is.\n"
    )


def _architecture(facts: Facts) -> list[tuple[str, str]]:
    config = facts.config
    encoder: str = config.encoder
    if config.encoder_width != 64:
        encoder += f", {config.encoder_width} channels in the stem instead of 64"
    if config.encoder_variant != "v1.5":
        encoder += ", stride 2 on the first 1x1 convolution of a bottleneck"
    residual = {None: "", "plain": ", residual blocks x + F(x)", "rectified": ", residual blocks relu(x) + F(x)"}
    ending = ", a last ReLU" if config.output_relu else ""
    return [
        ("encoder", encoder),
        ("decoder", f"{_DECODERS[config.name]}, {config.decoder_channels} channels{residual[config.residual]}{ending}"),
        ("parameters", f"{facts.num_parameters:,}"),
        (
            "input",
            "RGB of any size, padded to multiples of 32 by repeating its edge; normalised inside as for ImageNet",
        ),
        ("output", "one value a pixel, of the input's size"),
    ]


def _training(training: Training) -> str:
    rows: list[tuple[str, str]] = []
    for dataset in training.datasets:
        text = _code(dataset.name)
        if dataset.num_samples is not None:
            text += f", {dataset.num_samples:,} samples"
        if dataset.fingerprint is not None:
            text += f", fingerprint {_code(dataset.fingerprint)}"
        rows.append(("dataset", text))
    if training.loss is not None:
        rows.append(("loss", _loss(training.loss)))
    rows += [(name, _code(value)) for name, value in training.settings.items()]
    if training.step is not None:
        seen = f", {training.samples_seen:,} samples seen" if training.samples_seen is not None else ""
        rows.append(("length", f"{training.step:,} steps{seen}"))
    if training.hours is not None:
        rows.append(("time", f"{training.hours:.1f} h" if training.hours >= 1 else f"{60 * training.hours:.0f} min"))
    rows += [("hardware", _code(training.hardware))] if training.hardware else []
    rows += [("software", _code(training.software))] if training.software else []
    if not rows:
        return "Nothing is recorded about how these weights were made.\n"
    return _table(rows)


def _loss(loss: LossConfig) -> str:
    text = _LOSSES[loss.name].format(hard_share=loss.hard_share)
    if loss.name.endswith("ranking") and loss.equal_weight != 1:
        text += f", equal pairs weighted {loss.equal_weight:g}"
    if loss.name == "ssi_mae" and loss.trim_share:
        text += f", the largest {loss.trim_share:.0%} of the errors left out"
    if loss.gradient_weight:
        text += f"; gradients of the error at {loss.gradient_scales} scales, weighted {loss.gradient_weight:g}"
    return text


def _evaluation(training: Training) -> str:
    columns = [(name, figures) for name, figures in (("last", training.latest), ("best", training.best)) if figures]
    tags = [tag for tag in dict.fromkeys([*training.latest, *training.best]) if tag != "step"]
    if not tags:
        return ""
    head = ["", *(f"{name}, step {figures['step']:,}" if "step" in figures else name for name, figures in columns)]
    rows = [
        [_FIGURES.get(tag) or _code(tag), *(_figure(tag, figures.get(tag)) for _, figures in columns)] for tag in tags
    ]
    on = f"On the split `val` of {_code(training.validated_on)}. " if training.validated_on else ""
    of = f"The weights are those of step {training.step:,}." if training.step is not None else ""
    lead = f"{on}{of}".strip()
    return "\n".join(["## Evaluation", "", *([lead, ""] if lead else []), _rows([head, *rows])])


def _figure(tag: str, value: float | None) -> str:
    if value is None:
        return ""
    if tag == "val/whdr":
        return f"{value:.2%}".replace("%", " %")
    return f"{value:,}" if isinstance(value, int) or value.is_integer() else f"{value:.4g}"


def _limits(facts: Facts) -> str:
    height, width = facts.size_hw
    return f"""## Limits

- Relative depth only: no metres, no scale, no camera. Values of two pictures cannot be compared, and differences or
  ratios of values within one mean nothing beyond their order.
- Trained on {height} x {width} pixels. Other sizes work; far larger or smaller ones change what the network sees.
- Expect less on scenes unlike those that it was trained on.
- Not for decisions on which anybody's safety depends.
"""


def _license(facts: Facts) -> str:
    if facts.license_id == UNKNOWN_LICENSE:
        text = "Nobody has stated a licence for these weights; ask whoever published them before using them."
    else:
        text = f"Of the weights, as stated by whoever exported them: `{facts.license_id}`."
    return f"## Licence\n\n{text} The pictures they were trained on keep their own terms.\n"


def _table(rows: list[tuple[str, str]]) -> str:
    return _rows([["", ""], *([name, value] for name, value in rows)])


def _rows(rows: list[list[str]]) -> str:
    """A table; the first row is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


def _code(value: str) -> str:
    """A value from outside as a code span: one line, printable, bounded, unable to end the span or a table cell."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in value).split())[:_TEXT_LIMIT]
    return "`" + plain.replace("`", "'").replace("|", "\\|") + "`"
