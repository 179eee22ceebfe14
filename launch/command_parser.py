"""An argument parser that tells what a wrong option probably meant; it imports nothing but the standard library.

parser = CommandParser(prog="depthrank status", description="Say how a run stands.")
"""

import argparse
import re
import sys
import textwrap
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, NoReturn

__all__ = ["CommandParser"]


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of a text that has some, and breaks one that has none."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent)


class CommandParser(argparse.ArgumentParser):
    """An argument parser that wants options in full, and tells what a wrong one probably meant."""

    def __init__(self, *, prog: str, description: str, epilog: str | None = None) -> None:
        super().__init__(
            prog=prog, description=description, epilog=epilog, formatter_class=_Formatter, allow_abbrev=False
        )
        self._given: tuple[str, ...] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse; what was given is remembered for the message of a mistake."""
        if not self._given:
            self._given = tuple(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Print a usage mistake and exit with code 2."""
        hints = "".join(f"\n  {hint}" for hint in [*self._choice_hints(message), *self._option_hints()])
        self.exit(2, f"error: {message}{hints}\n{self.format_usage()}")

    def _choice_hints(self, message: str) -> list[str]:
        """What a value that is none of the choices probably meant."""
        refused = re.search(r"invalid choice: '([^']*)'", message)
        choices = [str(choice) for action in self._actions for choice in action.choices or ()]
        close = get_close_matches(refused.group(1), choices, n=1) if refused else []
        return [f"did you mean {close[0]}?"] if close else []

    def _option_hints(self) -> list[str]:
        """What each option that does not exist probably meant."""
        actions = list(_all_actions(self))
        options = [option for action in actions for option in action.option_strings]
        takes_settings = any(action.dest == "overrides" for action in actions)
        hints = []
        for word in self._given:
            if word == "--":
                break
            option, equals, value = word.partition("=")
            if not option.startswith("--") or option in options:
                continue
            key = option.lstrip("-").replace("-", "_")
            meant = key if "." in key else _setting(key) if takes_settings else ""
            if close := get_close_matches(option, options, n=1, cutoff=0.7):
                hints.append(f"{option} is no option (did you mean {close[0]}?)")
            elif meant:
                hints.append(f"{option} is no option; settings have no dashes: {meant}={value if equals else 'VALUE'}")
        return hints


def _all_actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of a parser and of its subcommands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _all_actions(inner)


def _setting(name: str) -> str:
    """The setting that is meant by its last name, or nothing."""
    from launch.config.schema import suggestion  # only a mistake needs them
    from launch.recipe import Recipe

    return suggestion(Recipe, (name,))
