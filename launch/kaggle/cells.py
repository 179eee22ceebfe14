"""What the five cells of the notebook do.

    session = check({"run": "t4x2"}); session.install(); session.find_data(); session.train(); session.summary()

Until `install` has run, only the standard library and the packages of Kaggle's image are there. A mistake ends a cell
with one message and without a traceback, and Kaggle's version with it; after training has begun nothing does, because
what a failed version leaves may be lost.
"""

import functools
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from launch.kaggle.checks import (
    Gpu,
    choose_precision,
    describe_machine,
    find_gpus,
    require_room,
    require_usable,
    usage_of,
)
from launch.kaggle.mounts import Attached, KagglePlace, look, newest_step
from launch.kaggle.settings import Settings
from launch.kaggle.wheels import install
from shards.errors import ConfigError, DepthRankError, RunError

if TYPE_CHECKING:
    from pipeline.train.config import RunConfig

__all__ = ["NotebookSession", "check"]

P = ParamSpec("P")
T = TypeVar("T")


def _ends_in_a_message(cell: Callable[P, T]) -> Callable[P, T]:
    """A cell whose mistakes end it with a message."""

    @functools.wraps(cell)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return cell(*args, **kwargs)
        except DepthRankError as error:
            raise SystemExit(f"error: {error}") from None

    return run


@_ends_in_a_message
def check(values: Mapping[str, object]) -> "NotebookSession":
    """The first cell: say what this session is made of, and refuse one that cannot train."""
    settings, place = Settings.given(**values), KagglePlace.here()
    if not place.input.is_dir():
        raise ConfigError(f"{place.input}: there is no such folder; this notebook runs on Kaggle (docs/kaggle.md)")
    place.working.mkdir(parents=True, exist_ok=True)
    for line in describe_machine(place.working):
        print(line)
    gpus = find_gpus()
    require_usable(gpus, may_be_cpu=not settings.require_gpu)
    for number, gpu in enumerate(gpus):
        print(f"gpu {number}     {gpu}")
    if len(gpus) == 1:
        print("note: one GPU; GPU T4 x2 (machine_shape NvidiaTeslaT4) gives two for the same quota")
    precision, reason = choose_precision(gpus)
    print(f"precision {precision or 'as the recipe says'} ({reason})")
    start = time.monotonic()
    attached = look(place.input)
    print(f"attached  {_counted(attached)}; searched in {time.monotonic() - start:.1f} s")
    for path in [*attached.shards, *attached.wheels]:
        print(f"          {path}")
    for path in attached.runs:
        print(f"          {path} up to step {newest_step(path)}")
    if attached.is_cut:
        print("note: the input has too many folders to search them all; attach less")
    return NotebookSession(settings, place, gpus, attached)


class NotebookSession:
    """What the cells hand on to each other."""

    def __init__(self, settings: Settings, place: KagglePlace, gpus: list[Gpu], attached: Attached) -> None:
        self.settings = settings
        self.place = place
        self._gpus = gpus
        self._attached = attached
        self._site: Path | None = None
        self._recipe: Path | None = None
        self._overrides: list[str] | None = None
        self._samples = 0

    @property
    def run_dir(self) -> Path:
        """Where this session's part of the run is written."""
        return self.place.working / "runs" / self.settings.run

    @_ends_in_a_message
    def install(self) -> None:
        """The second cell."""
        site = install(self._attached.wheels, self.place.scratch)
        sys.path.insert(0, str(site))
        self._site = site

    @_ends_in_a_message
    def find_data(self) -> None:
        """The third cell: choose the shards and the recipe, and find where the run goes on."""
        self._installed()
        attached = look(self.place.input)
        shards = self._choose_shards(attached)
        self._recipe = self._choose_recipe(attached)
        print(f"recipe    {self._recipe}")
        has_val = self._describe_shards(shards)
        roots = [str(path) for path in attached.runs]
        overrides = [
            f"run={self.run_dir}",
            f"data.train={_quoted(shards)}",
            f"data.val={_quoted(shards) if has_val else 'null'}",
            f"checkpoint.search=[{', '.join(map(_quoted, roots))}]",
        ]
        precision, _ = choose_precision(self._gpus)
        if precision is not None:
            overrides.append(f"train.precision={precision}")
        if self.settings.encoder_weights:
            overrides.append(f"model.encoder_weights={_quoted(self._choose_weights(attached))}")
        self._overrides = [*overrides, *self.settings.overrides]
        self._say_where_it_goes_on(self._config())

    @_ends_in_a_message
    def train(self) -> None:
        """The fourth cell: check the room, train, and leave a checkpoint in the output whatever happened."""
        from launch.kaggle.space import will_write
        from launch.kaggle.training import carry_checkpoint, run_to_end, train_command

        config = self._config()
        needed_bytes, needed_files = will_write(config, self._samples)
        usage = usage_of(self.place.working)
        folder = self.place.working
        for warning in require_room(usage, needed_bytes=needed_bytes, needed_files=needed_files, folder=folder):
            print(f"warning: {warning}")
        print(f"output    up to {needed_bytes / 1e9:.1f} GB in about {needed_files} files will be written")
        before = self._newest(config)
        arguments = ["--config", str(self._recipe), *(self._overrides or [])]
        command = train_command(len(self._gpus), self._installed(), arguments)
        code = run_to_end(command, site=self._installed(), cwd=self.place.working, run_dir=self.run_dir)
        after = newest_step(self.run_dir) or 0
        if code != 0 and after <= before:
            raise RunError(f"training ended with exit code {code} before its first checkpoint; what it says is above")
        if code != 0:
            print(f"training ended with exit code {code}; its checkpoints are kept, so this version ends in order")
        carried = carry_checkpoint(config)
        if carried is not None:
            print(f"this session made no checkpoint; {carried} is a copy of the newest one, to go on from")

    @_ends_in_a_message
    def summary(self) -> None:
        """The fifth cell: how the run stands, its curves and pictures, and what to do next."""
        from launch.kaggle.summary import next_steps, show_pictures, show_tensorboard, write_report
        from pipeline.train.status import describe, inventory, read_status

        status = read_status(self.run_dir)
        if status is None:
            raise RunError(f"{self.run_dir}: training has not begun; the cell above says why")
        print(describe(status).partition("\nNext: ")[0])
        for line in inventory(self.run_dir, status):
            print(line)
        usage = usage_of(self.place.working)
        print(f"output: {usage.bytes / 1e9:.2f} GB in {usage.files} files")
        write_report(self.run_dir, self.place.working / "report.html", site=self._installed())
        show_pictures(self.run_dir)
        show_tensorboard(self.run_dir)
        print(next_steps(status, self.run_dir))

    def _installed(self) -> Path:
        if self._site is None:
            raise ConfigError("run the second cell first: the program is not installed")
        return self._site

    def _config(self) -> "RunConfig":
        from launch.recipe import load_recipe
        from pipeline.train.config import RunConfig

        if self._overrides is None:
            raise ConfigError("run the third cell first: it finds the shards")
        return load_recipe(str(self._recipe), self._overrides, needs=RunConfig).recipe.run_config()

    def _choose_shards(self, attached: Attached) -> Path:
        fitting = [path for path in attached.shards if self.settings.shards in str(path.relative_to(self.place.input))]
        if len(fitting) == 1:
            return fitting[0]
        listed = "".join(f"\n  {path}" for path in attached.shards)
        if not attached.shards:
            raise ConfigError(
                f"no dataset of shards lies below {self.place.input} (a folder with manifest.json and train.index). "
                "Make one with `python -m launch.shards`, upload it with `python -m launch.kaggle shards`, attach it "
                "with Add Input > Datasets"
            )
        if not fitting:
            raise ConfigError(f"shards={self.settings.shards!r} is part of none of the attached datasets:{listed}")
        raise ConfigError(f"several datasets of shards are attached; say which by shards= in the first cell:{listed}")

    def _choose_recipe(self, attached: Attached) -> Path:
        name = self.settings.recipe
        own = self.place.working / name
        found = [own] if own.is_file() else attached.named(Path(name).name)
        if not found:
            known = sorted({path.name for path in attached.files if path.suffix in (".yaml", ".yml")})
            raise ConfigError(
                f"recipe={name!r} is neither a file nor attached (attached: {', '.join(known) or 'none'}); "
                "`python -m launch.kaggle code --recipe FILE` puts one into the dataset of the program"
            )
        if len(found) > 1:
            raise ConfigError(
                f"recipe={name!r} is attached {len(found)} times: {', '.join(map(str, found))}; detach one"
            )
        return found[0]

    def _choose_weights(self, attached: Attached) -> Path:
        found = attached.named(self.settings.encoder_weights)
        if len(found) != 1:
            known = sorted(path.name for path in attached.files if path.suffix == ".safetensors")
            raise ConfigError(
                f"encoder_weights={self.settings.encoder_weights!r} is attached {len(found)} times, not once "
                f"(attached: {', '.join(known) or 'none'})"
            )
        return found[0]

    def _describe_shards(self, shards: Path) -> bool:
        """Print what the dataset holds; whether it has a validation split."""
        from pipeline.data.presence import find_shards
        from shards.manifest import read_manifest

        manifest = read_manifest(str(shards))
        print(f"shards    {shards}")
        for name, split in manifest.splits.items():
            unpacked = find_shards(shards, split.shards)
            size = sum(shard.bytes for shard in split.shards) / 1e9
            kind = f"{len(split.shards)} tar file(s)"
            if unpacked:
                kind += f", {len(unpacked)} of them unpacked by Kaggle: read as folders, each sample verified"
            print(f"          {name}: {split.samples} samples, {size:.2f} GB, {kind}")
        if "train" not in manifest.splits:
            raise ConfigError(f"{shards}: the dataset has no split train")
        self._samples = manifest.splits["train"].samples
        return "val" in manifest.splits

    def _newest(self, config: "RunConfig") -> int:
        """Step of the newest checkpoint of this run, here or attached, going by names; 0 for a new run."""
        roots = [Path(root) for root in config.checkpoint.search if Path(root).name == self.settings.run]
        return max((newest_step(root) or 0 for root in (self.run_dir, *roots)), default=0)

    def _say_where_it_goes_on(self, config: "RunConfig") -> None:
        newest = self._newest(config)
        for path in self._attached.runs:
            if path.name != self.settings.run:
                print(f"note: {path} is another run than {self.settings.run!r} (run= in the first cell)")
        if newest < self.settings.expect_step:
            raise ConfigError(
                f"expect_step={self.settings.expect_step}, but the newest checkpoint of the run {self.settings.run!r} "
                f"that is attached is of step {newest}: it would train again what was trained before. Attach the "
                "output of the version before (Add Input > Notebooks), or set expect_step=0 to begin anew"
            )
        print(f"start     step {newest}" if newest else "start     a new run: no checkpoint of it is attached")


def _counted(attached: Attached) -> str:
    counts = {
        "dataset(s) of shards": len(attached.shards),
        "earlier run(s)": len(attached.runs),
        "wheel(s)": len(attached.wheels),
    }
    return ", ".join(f"{count} {what}" for what, count in counts.items())


def _quoted(path: Any) -> str:
    """A path as a value in an override."""
    text = str(path)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if any(char in text for char in " ,:#[]{}'\"\\") else os.fspath(text)
