"""What a user may say in the first cell of the notebook."""

import re
from dataclasses import dataclass, field, fields

from shards.errors import ConfigError

__all__ = ["Settings"]

RUN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Settings:
    """Settings of the notebook; the recipe has all others."""

    recipe: str = field(default="kaggle_t4x2.yaml", metadata={"help": "a recipe in an attached dataset, or a path"})
    run: str = field(default="t4x2", metadata={"help": "name of the run; earlier versions' checkpoints carry it"})
    overrides: tuple[str, ...] = field(default=(), metadata={"help": 'more settings: ["train.batch_size=16"]'})
    shards: str = field(default="", metadata={"help": "part of the path, where several datasets are attached"})
    encoder_weights: str = field(default="", metadata={"help": "an attached .safetensors; empty: as the recipe says"})
    expect_step: int = field(default=0, metadata={"help": "refuse to begin before this step: a forgotten input"})
    require_gpu: bool = field(default=True, metadata={"help": "False tries the notebook on a CPU"})

    def __post_init__(self) -> None:
        """Check what is typed by hand; the lists of a notebook become tuples.

        Raises:
            ConfigError: Names the setting.
        """
        if not isinstance(self.overrides, list | tuple) or not all(isinstance(text, str) for text in self.overrides):
            raise ConfigError(f'overrides: {self.overrides!r}: give a list of texts, ["train.batch_size=16"]')
        object.__setattr__(self, "overrides", tuple(self.overrides))
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name != "overrides" and type(value) is not type(item.default):
                raise ConfigError(f"{item.name}: {value!r}: give it as in {item.name}={item.default!r}")
        if not RUN_NAME.fullmatch(self.run):
            raise ConfigError(f"run: {self.run!r} is no plain name (letters, digits, - _ .); its folder is runs/NAME")
        for text in self.overrides:
            key, equals, _ = text.partition("=")
            if not equals:
                raise ConfigError(f"overrides: {text!r}: needs KEY=VALUE")
            if key in OWNED:
                raise ConfigError(f"overrides: {text!r}: the notebook sets {key}; use {OWNED[key]} in the first cell")

    @classmethod
    def given(cls, **values: object) -> "Settings":
        """From keyword arguments.

        Raises:
            ConfigError: One of them is unknown.
        """
        known = [item.name for item in fields(cls)]
        for name in values:
            if name not in known:
                raise ConfigError(f"unknown setting {name!r} (there are {', '.join(known)})")
        return cls(**values)  # type: ignore[arg-type]


OWNED = {
    "run": "run=",
    "data.train": "shards=",
    "data.val": "shards=",
    "checkpoint.search": "Add Input, whatever is attached is searched",
}
"""Settings of a recipe that the notebook finds out."""
