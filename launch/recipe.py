"""The root of a recipe: one YAML file holds the sections of every command, and each command takes its own.

    loaded = load_recipe("configs/demo.yaml", ["train.steps=200"], needs=RunConfig)
    config = loaded.recipe.run_config()

Relative paths in a recipe are relative to the current directory, and environment variables are not interpolated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from launch.config import provenance, render, resolve
from launch.config.problems import dotted
from launch.config.schema import required_keys
from model.config import LossConfig, ModelConfig, Section
from pipeline.data.config import DataConfig
from pipeline.train.config import CheckpointConfig, MonitorConfig, OptimConfig, RunConfig, SessionConfig, TrainConfig
from shards.config import PackConfig, ShardsConfig
from shards.errors import ConfigError
from shards.sources.config import SourceConfig

__all__ = ["Loaded", "Recipe", "load_recipe"]

C = TypeVar("C", bound=Section)


class Recipe(Section):
    """Everything a config file may say. What only another command needs may be absent."""

    run: str | None = None
    """Run folder; its last component is the run's id, by which checkpoints elsewhere are recognised."""
    out: str | None = None
    """Folder or fsspec URL of the dataset that `shards` writes."""
    source: SourceConfig | None = None
    shards: ShardsConfig = ShardsConfig()
    data: DataConfig | None = None
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig | None = None
    checkpoint: CheckpointConfig = CheckpointConfig()
    session: SessionConfig = SessionConfig()
    monitor: MonitorConfig = MonitorConfig()

    def run_config(self) -> RunConfig:
        """What training needs.

        Raises:
            ConfigError: naming every key that is missing for it.
        """
        return self._part(RunConfig)

    def pack_config(self) -> PackConfig:
        """What packing needs.

        Raises:
            ConfigError: naming every key that is missing for it.
        """
        return self._part(PackConfig)

    def _part(self, command: type[C]) -> C:
        given = {name: getattr(self, name) for name in command.model_fields if getattr(self, name) is not None}
        absent = [
            dotted(path)
            for name, field in command.model_fields.items()
            if name not in given
            for path in required_keys(field, (name,))
        ]
        if absent:
            raise ConfigError(f"missing: {', '.join(absent)}; set them in the config file or give KEY=VALUE")
        try:
            return command(**given)
        except ValidationError as error:  # a rule between sections; those within one were checked where it was read
            lines = (str(problem["msg"]).removeprefix("Value error, ") for problem in error.errors())
            raise ConfigError("\n".join(lines)) from error


@dataclass(frozen=True)
class Loaded:
    """A recipe and where its settings came from."""

    recipe: Recipe
    provenance: Mapping[str, str]
    """Place of every setting by dotted key: `default`, `command line` or `file:line`."""
    notes: tuple[str, ...]
    """What overrides did besides setting a value, a line each; to be shown to the user."""
    text: str
    """The resolved recipe as commented YAML that can be loaded again."""


def load_recipe(path: str | None, overrides: Sequence[str] = (), *, needs: type[Section] | None = None) -> Loaded:
    """Read a recipe and override some of its settings.

    Args:
        path: YAML file; None starts from the defaults.
        overrides: `key=value` each, dotted keys, values as in a file.
        needs: RunConfig or PackConfig; what it requires and the recipe lacks is then a mistake too.

    Raises:
        ConfigError: every mistake, a line each, `file:line: key: what is wrong`.
    """
    resolved = resolve(Recipe, path, overrides, needs=needs)
    notes = tuple(f"command line: {dotted(at)} {remark}" for at, remark in resolved.remarks.items())
    return Loaded(resolved.config, provenance(resolved), notes, render(resolved))
