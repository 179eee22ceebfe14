"""Every setting as one page, written from the schema: docs/configuration.md.

    python -m launch.reference --out docs/configuration.md

A test compares the page with the schema, so after a change of a setting write it anew (`make reference`).
"""

import sys
from pathlib import Path

from launch.cli import run_command
from launch.command_parser import CommandParser
from launch.config.manual import manual
from launch.recipe import Recipe
from model.config import Section
from pipeline.train.config import RunConfig
from shards.config import PackConfig

__all__ = ["main", "page"]

_READERS: dict[str, type[Section]] = {"`shards`, `eyes`": PackConfig, "`train`, `samples`": RunConfig}
_OPENING = """# Configuration

*Written by `python -m launch.reference --out docs/configuration.md` from the schema; do not edit.*

One YAML file, a *recipe*, holds the settings of every command; each takes the sections that it needs. Ready ones lie in
`configs/`. What a recipe leaves out has the default of this page.

```sh
python -m launch.train --config configs/webstereo.yaml optim.lr=3e-4 train.size=[288,384] session.max_hours=null
python -m launch.train --config configs/webstereo.yaml --print-config
```

- **On the command line** any setting is `key=value`, its key with dots, without dashes before it; it replaces what the
  recipe says. Values are those of YAML 1.2: `1e-4` is a number, `null` stands for none, `[288,384]` is a list, `on` and
  `yes` are texts. Quote what the shell would take apart: `'source.splits=[test]'`. `null` for a whole section gives its
  defaults back.
- `--print-config` prints all settings with the place each came from, and is a recipe itself.
- Mistakes are reported all at once, with file and line, and with what was probably meant.
- Anchors, tags and variables of the environment are not expanded. Relative paths are relative to the current folder.
- What a run that has begun may change, and what it may not, stands in
  [preemption.md](preemption.md#what-may-change-between-sessions).
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command on the arguments after its name (None: the process's) and return its exit code."""
    options = _parser().parse_args(argv)
    text = page()
    if options.out is None:
        print(text, end="")
        return 0
    from shards.errors import ConfigError

    try:
        options.out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out {options.out}: cannot write there: {error.strerror}; name another file") from error
    print(f"{options.out}: {text.count(chr(10))} lines")
    return 0


def page() -> str:
    """The page, as Markdown."""
    needed = {
        name
        for name in Recipe.model_fields
        if any(config.model_fields[name].is_required() for config in _READERS.values() if name in config.model_fields)
    }
    return "\n".join([_OPENING, _readers(), "", "## The top of a recipe", "", manual(Recipe, required=needed)])


def _readers() -> str:
    """Which command reads which sections."""
    rows = []
    for commands, config in _READERS.items():
        names = [f"`{name}`" if name in ("run", "out") else f"[{name}](#{name})" for name in config.model_fields]
        rows.append(f"| {commands} | {', '.join(names)} |")
    return "\n".join(["| command | reads |", "|---|---|", *rows])


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="python -m launch.reference", description="Every setting with default, values and meaning, as Markdown."
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: print the page)")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
