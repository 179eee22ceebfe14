"""Which runs the study is made of: a pure function of the preset, the experiments asked for and the base rate.

An arm is one way to train: the base recipe with some settings changed, on one of the datasets. An experiment compares
arms; several share the arm `improved_ranking`, which is the base recipe itself and is trained once for all of them.

    for run in plan("cpu", ["losses"], lr=1e-3): run.name, run.shards, run.settings     # "mae_s0", "cleaned", ...
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from shards.errors import ConfigError

__all__ = [
    "BASE",
    "CLEANED",
    "EXPERIMENTS",
    "PACKING",
    "PRESETS",
    "SUBSETS",
    "Arm",
    "Experiment",
    "StudyRun",
    "arms",
    "chosen",
    "plan",
]

BASE = "improved_ranking"
"""The arm that is the base recipe."""
CLEANED = "cleaned"
"""The dataset that the base recipe trains on, and on whose split `val` every run is judged."""
PRESETS = ("cpu", "gpu")

_NO_RULES = (
    "shards.match.max_vertical_px=10000",
    "shards.quality.max_vertical_share=1",
    "shards.quality.min_range_share=0",
    "shards.quality.min_known_share=0",
    "shards.quality.min_agreement=0",
    "shards.quality.max_layer_share=1",
)
PACKING: Mapping[str, tuple[str, ...]] = {
    CLEANED: (),
    "eyes_as_given": ("source.eyes=as_given",),
    "unaligned": ("shards.match.align=false",),
    "uncleaned": ("source.eyes=as_given", "shards.match.align=false", *_NO_RULES),
}
"""Dataset packed from the pictures -> what differs from the recipe."""
SUBSETS: Mapping[str, float] = {"tenth": 0.1, "quarter": 0.25, "half": 0.5}
"""Dataset drawn from the training split of `CLEANED` -> share of its pictures; the smaller is part of the larger."""


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    name: str
    title: str
    """As the page calls it."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What differs from the recipe, key to value as on a command line."""
    shards: str = CLEANED
    """Name of the dataset."""


@dataclass(frozen=True)
class Experiment:
    """Arms that are compared with each other."""

    name: str
    title: str
    arms: tuple[str, ...]
    """In the order of the page."""
    only_gpu: tuple[str, ...] = ()
    """More arms of the preset `gpu`."""
    cpu_seeds: int = 2
    gpu_seeds: int = 3


@dataclass(frozen=True)
class StudyRun:
    """One training run: an arm with a seed."""

    arm: Arm
    seed: int

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.arm.name}_s{self.seed}"

    @property
    def shards(self) -> str:
        """Name of the dataset that it trains on."""
        return self.arm.shards

    @property
    def settings(self) -> dict[str, str]:
        """What differs from the recipe, the seed included."""
        return {**self.arm.settings, "train.seed": str(self.seed)}


EXPERIMENTS = (
    Experiment(
        "losses",
        "Losses",
        ("mae", "mse", "ranking", BASE),
        only_gpu=("edge_guided",),
        cpu_seeds=3,
    ),
    Experiment("pairs", "Pairs per picture", ("pairs_1", "pairs_100", "pairs_1000", BASE)),
    Experiment("size", "Training pictures", ("quarter", "half", BASE), only_gpu=("tenth",)),
    Experiment("cleaning", "Cleaning of the labels", ("uncleaned", BASE), only_gpu=("eyes_as_given", "unaligned")),
    Experiment("augment", "Augmentation", ("augment_none", "augment_flip", BASE, "augment_colour")),
    Experiment("rate", "Learning rate and schedule", ("lr_third", BASE, "lr_triple", "constant", "step")),
)
"""In the order in which they are trained: what is most wanted first."""

_COLOUR = {
    "data.augment.brightness": "0.2",
    "data.augment.contrast": "0.2",
    "data.augment.saturation": "0.2",
    "data.augment.hue_deg": "10",
    "data.augment.blur_probability": "0.2",
    "data.augment.jpeg_probability": "0.2",
}


def arms(lr: float) -> dict[str, Arm]:
    """All arms by name; `lr` is the recipe's learning rate, which two of them change."""
    off = {"data.augment.crop_scale_min": "1", "data.augment.crop_aspect_max": "1"}
    found = (
        Arm("mae", "MAE (L1)", {"loss.name": "mae"}),
        Arm("mse", "MSE (L2)", {"loss.name": "mse"}),
        Arm("ranking", "ranking", {"loss.name": "ranking"}),
        Arm(BASE, "improved ranking, the base recipe"),
        Arm("edge_guided", "improved ranking, edge-guided pairs", {"data.sampler": "edge_guided"}),
        Arm("pairs_1", "1 pair", {"data.num_pairs": "1"}),
        Arm("pairs_100", "100 pairs", {"data.num_pairs": "100"}),
        Arm("pairs_1000", "1,000 pairs", {"data.num_pairs": "1000"}),
        Arm("tenth", "a tenth of the pictures", shards="tenth"),
        Arm("quarter", "a quarter of the pictures", shards="quarter"),
        Arm("half", "half of the pictures", shards="half"),
        Arm("uncleaned", "eyes as stored, not aligned, nothing refused", shards="uncleaned"),
        Arm("eyes_as_given", "eyes as stored", shards="eyes_as_given"),
        Arm("unaligned", "not aligned", shards="unaligned"),
        Arm("augment_none", "no augmentation", {**off, "data.augment.flip_probability": "0"}),
        Arm("augment_flip", "mirror only", off),
        Arm("augment_colour", "crop, mirror, colour, blur, JPEG", _COLOUR),
        Arm("lr_third", "a third of the rate", {"optim.lr": f"{lr / 3:.4g}"}),
        Arm("lr_triple", "three times the rate", {"optim.lr": f"{lr * 3:.4g}"}),
        Arm("constant", "constant rate", {"optim.schedule": "constant"}),
        Arm("step", "rate in steps", {"optim.schedule": "step"}),
    )
    return {arm.name: arm for arm in found}


def chosen(only: Sequence[str]) -> tuple[Experiment, ...]:
    """The experiments of these names, in the study's order; all of them where none is named.

    Raises:
        ConfigError: A name is unknown.
    """
    names = [experiment.name for experiment in EXPERIMENTS]
    for name in only:
        if name not in names:
            close = get_close_matches(name, names, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(names)}"
            raise ConfigError(f"--only {name}: no such experiment ({hint})")
    return tuple(experiment for experiment in EXPERIMENTS if not only or experiment.name in only)


def plan(preset: str, only: Sequence[str] = (), *, lr: float) -> tuple[StudyRun, ...]:
    """The runs, each once, in the order in which they are trained.

    Within an experiment all arms of one seed come before the next seed, so that a study that ends early has compared
    something.

    Args:
        preset: `cpu` or `gpu`.
        only: Names of experiments; none means all.
        lr: The recipe's learning rate.

    Raises:
        ConfigError: An experiment is unknown.
    """
    known = arms(lr)
    runs: dict[str, StudyRun] = {}
    for experiment in chosen(only):
        for seed in range(seeds_of(experiment, preset)):
            for name in arms_of(experiment, preset):
                run = StudyRun(known[name], seed)
                runs.setdefault(run.name, run)
    return tuple(runs.values())


def arms_of(experiment: Experiment, preset: str) -> tuple[str, ...]:
    """Names of the arms that a preset compares."""
    return experiment.arms + (experiment.only_gpu if preset == "gpu" else ())


def seeds_of(experiment: Experiment, preset: str) -> int:
    """How many seeds a preset trains of each arm."""
    return experiment.gpu_seeds if preset == "gpu" else experiment.cpu_seeds
