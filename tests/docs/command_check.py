"""What is wrong with a command, asked of those who would run it: argument parsers, the schema of the settings, make.

    problems(["python", "-m", "launch.train", "--config", "configs/demo.yaml", "optim.lr=1e-3"])

A command of ours is really started, up to the point where its arguments are read and its settings are resolved. So a
command that is added is covered without being named here.
"""

import argparse
import contextlib
import importlib
import importlib.util
import io
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import launch.arguments
from launch.cli import COMMANDS
from launch.recipe import Loaded, load_recipe
from pipeline.train.config import RunConfig
from shards.errors import ConfigError

from .command_lines import commands
from .markdown import ROOT

__all__ = ["Parsed", "all_actions", "parse", "parser_of", "problems"]

OUR_PACKAGES = {"launch", "pipeline", "shards", "model", "tests"}
FOREIGN = set(
    re.findall(
        r"\S+",
        """
        git cd ls cp mv rm cat tail head less grep sort wc mkdir touch echo printf test true kill sleep exit trap wait
        export source . unset set read unzip tar gunzip gzip zip curl wget ssh scp rsync sudo apt apt-get df du free
        nproc nvidia-smi pip pip3 uv conda module virtualenv docker podman apptainer singularity squeue scancel scontrol
        sacct sinfo salloc kaggle aws gsutil gcloud rclone hf huggingface-cli tensorboard dask tmux screen nohup watch
        npm npx xdg-open open jupyter ulimit umount mount sync chmod ln which env lscpu py-spy nsys perf taskset htop
        """,
    )
)
WRAPPERS = {"srun", "nohup", "env", "nice", "exec", "sudo", "uv", "taskset", "apptainer", "singularity", "xargs"}
_PYTHON = re.compile(r"(?:\S*/)?python(?:3(?:\.\d+)?)?$")
_OVERRIDE = re.compile(r"[a-z_]+(?:\.[a-z_0-9]+)*=.*", re.DOTALL)


class Parsed(Exception):
    """A command has read its arguments; it goes no further."""

    def __init__(self, parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
        super().__init__(parser.prog)
        self.parser = parser
        self.arguments = arguments


def parse(module: str, argv: Sequence[str]) -> Parsed:
    """Start the command `python -m module argv` until its arguments are read and its settings are resolved.

    Raises:
        ConfigError: as the command does.
        SystemExit: as the command does, for instance from `--help`.
    """
    main: Callable[[], int] = importlib.import_module(module).main
    with _stopping_after_the_arguments(), _arguments(module, argv), contextlib.chdir(ROOT):
        try:
            code = main()
        except Parsed as parsed:
            return parsed
    raise AssertionError(f"{module}: ended with {code} without reading its arguments by argparse")


def problems(words: Sequence[str], *, loose: bool = False) -> list[str]:
    """What is wrong with a command; nothing where it would run.

    Args:
        words: the command and its arguments.
        loose: it is mentioned within a sentence: what is required may be absent, and nothing foreign is judged.
    """
    name, rest = words[0], list(words[1:])
    if _PYTHON.match(name):
        return _python(rest, loose)
    name = name.removeprefix(".venv/bin/")
    if name == "depthrank":
        return _depthrank(rest, loose)
    if name == "make":
        return _make(rest)
    if name == "torchrun":
        return _launcher("torch.distributed.run", "get_args_parser", rest, loose)
    if name == "accelerate":
        if rest[:1] != ["launch"]:
            return [] if rest[:1] in (["config"], ["env"], ["test"]) else [f"accelerate {' '.join(rest)}"]
        return _launcher("accelerate.commands.launch", "launch_command_parser", rest[1:], loose)
    if name in {"pip", "pip3"}:
        return _pip(rest)
    if name in {"sh", "bash", "sbatch"} or name.startswith("./"):
        return _script(words if name.startswith("./") else rest, loose)
    if name in WRAPPERS:
        inner = next((at for at, word in enumerate(rest) if _is_ours(word)), None)
        return [] if inner is None else problems(rest[inner:], loose=loose)
    if name in FOREIGN or loose:
        return []
    return [f"the program '{name}' is not known; if there is one, add it to FOREIGN in {Path(__file__).name}"]


def _is_ours(word: str) -> bool:
    return bool(_PYTHON.match(word)) or word in {"torchrun", "accelerate", "make"} or word.endswith("/depthrank")


def _python(rest: list[str], loose: bool) -> list[str]:
    if rest[:1] == ["-m"] and len(rest) > 1:
        module = rest[1]
        if module == "pip":
            return _pip(rest[2:])
        if module.partition(".")[0] not in OUR_PACKAGES:
            return []
        return _module(module, rest[2:], loose)
    if rest[:1] and not rest[0].startswith("-") and not (ROOT / rest[0]).is_file():
        return [] if loose else [f"{rest[0]}: no such file"]
    return []


def _depthrank(rest: list[str], loose: bool) -> list[str]:
    if not rest or rest[0] in {"--help", "--version", "help", "COMMAND"}:
        return []
    if rest[0] not in COMMANDS:
        return [f"depthrank has no command '{rest[0]}'"]
    return _module(f"launch.{rest[0]}", rest[1:], loose)


def _module(module: str, argv: list[str], loose: bool) -> list[str]:
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None:
        return [f"there is no module {module}"]
    if found.submodule_search_locations is not None:
        module = f"{module}.__main__"
    if not hasattr(importlib.import_module(module), "main"):
        return [f"{module} is no command"]
    if loose:
        return _mentioned(module, argv)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            _check_settings(parse(module, argv).arguments)
    except ConfigError as error:
        return [str(error)]
    except SystemExit as end:
        return [_error_line(said.getvalue())] if end.code else []
    return []


def _error_line(said: str) -> str:
    lines = said.strip().splitlines()
    return next((line for line in lines if "error:" in line), lines[-1] if lines else "ended without a word")


def _check_settings(arguments: argparse.Namespace) -> None:
    """Settings of a command that does not read them as the others do."""
    overrides = getattr(arguments, "overrides", None)
    if overrides is not None and not hasattr(arguments, "print_config"):
        load_recipe(getattr(arguments, "config", None), overrides)


def _mentioned(module: str, argv: list[str]) -> list[str]:
    """Of a command within a sentence, options and keys must exist."""
    parser = parser_of(module)
    known = {option for action in all_actions(parser) for option in action.option_strings}
    found = [f"{module} has no option {word}" for word in argv if word.startswith("--") and word not in known]
    overrides = [word for word in argv if _OVERRIDE.fullmatch(word) and "." in word.partition("=")[0]]
    try:
        load_recipe(None, overrides)
    except ConfigError as error:
        if "unknown key" in str(error):
            found.append(str(error))
    return found


def all_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The arguments of a parser and of its subcommands, without `--help` itself."""
    found: list[argparse.Action] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                found += all_actions(inner)
        elif action.dest != "help":
            found.append(action)
    return found


def parser_of(module: str) -> argparse.ArgumentParser:
    """The parser of a command, which asks for its help to be shown."""
    shown: list[argparse.ArgumentParser] = []
    original = argparse.ArgumentParser.print_help

    def print_help(parser: argparse.ArgumentParser, file: Any = None) -> None:
        shown.append(parser)

    argparse.ArgumentParser.print_help = print_help  # type: ignore[method-assign]
    try:
        with contextlib.suppress(SystemExit):
            parse(module, ["--help"])
    finally:
        argparse.ArgumentParser.print_help = original  # type: ignore[method-assign]
    return shown[0]


def _launcher(module: str, factory: str, rest: list[str], loose: bool) -> list[str]:
    """Accelerate's or torchrun's own options, and then the command that they start."""
    if loose:
        return problems(["python", *rest[rest.index("-m") :]], loose=True) if "-m" in rest else []
    parser: argparse.ArgumentParser = getattr(importlib.import_module(module), factory)()
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            arguments = parser.parse_args(rest)
    except SystemExit:
        return [_error_line(said.getvalue())]
    config = getattr(arguments, "config_file", None)
    if config and not (ROOT / config).is_file():
        return [f"{config}: no such file"]
    if not arguments.module:
        return _python([arguments.training_script, *arguments.training_script_args], loose)
    return _python(["-m", arguments.training_script, *arguments.training_script_args], loose)


def _make(rest: list[str]) -> list[str]:
    """Ask make what it would run, and look at that too."""
    if rest[:1] == ["TARGET"]:
        return []
    asked = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", *rest],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MAKEFLAGS": ""},
    )
    if asked.returncode:
        return [asked.stderr.strip().splitlines()[-1]]
    return [
        problem
        for _, words in commands(asked.stdout)
        for problem in problems(words, loose=not (_is_ours(words[0]) or words[0].endswith(("torchrun", "accelerate"))))
    ]


def _pip(rest: list[str]) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"])
    found = []
    for word in rest:
        wanted = re.fullmatch(r"(?:depthrank|\.)\[([\w,-]+)\](?:\s*@.*)?", word)
        if wanted:
            found += [f"no extra '{name}'" for name in wanted.group(1).split(",") if name not in extras]
    return found


def _script(rest: list[str], loose: bool) -> list[str]:
    """A shell script of the project, with a recipe and overrides, or another command behind `--`."""
    at = next((at for at, word in enumerate(rest) if not word.startswith("-")), None)
    if at is None:
        return []
    script, arguments = rest[at], rest[at + 1 :]
    if not (ROOT / script).is_file():
        return [f"{script}: no such file"] if script.startswith(("launch/", "./launch", "docs/")) else []
    if "--" in arguments:
        return problems(arguments[arguments.index("--") + 1 :], loose=loose)
    recipes = [word for word in arguments if word.endswith((".yaml", ".yml"))]
    overrides = [word for word in arguments if _OVERRIDE.fullmatch(word)]
    if recipes and not loose:
        try:
            load_recipe(recipes[0], overrides, needs=RunConfig)
        except ConfigError as error:
            return [str(error)]
    return []


@contextlib.contextmanager
def _arguments(module: str, argv: Sequence[str]) -> Iterator[None]:
    before = sys.argv
    sys.argv = [f"{module}.py", *argv]
    try:
        yield
    finally:
        sys.argv = before


@contextlib.contextmanager
def _stopping_after_the_arguments() -> Iterator[None]:
    """Let every parser stop the command once it has read the arguments, or, with a recipe, once that is read."""
    parse_args = argparse.ArgumentParser.parse_args
    parse_intermixed_args = argparse.ArgumentParser.parse_intermixed_args
    last: list[Parsed] = []

    def stop(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> argparse.Namespace:
        last.append(Parsed(parser, arguments))
        if not hasattr(arguments, "print_config"):
            raise last[-1]
        return arguments  # the command now reads its recipe

    def parse_then_stop(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> argparse.Namespace:
        return stop(self, parse_args(self, *args, **kwargs))

    def parse_intermixed_then_stop(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> argparse.Namespace:
        return stop(self, parse_intermixed_args(self, *args, **kwargs))

    def load_then_stop(*args: Any, **kwargs: Any) -> Loaded:
        load_recipe(*args, **kwargs)
        raise last[-1]

    argparse.ArgumentParser.parse_args = parse_then_stop  # type: ignore[method-assign,assignment]
    argparse.ArgumentParser.parse_intermixed_args = parse_intermixed_then_stop  # type: ignore[method-assign,assignment]
    launch.arguments.load_recipe = load_then_stop
    try:
        yield
    finally:
        argparse.ArgumentParser.parse_args = parse_args  # type: ignore[method-assign]
        argparse.ArgumentParser.parse_intermixed_args = parse_intermixed_args  # type: ignore[method-assign]
        launch.arguments.load_recipe = load_recipe
