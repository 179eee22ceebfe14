"""An argument parser that tells what a wrong option probably meant; it imports nothing but the standard library.

parser = CommandParser(prog="depthrank status", description="Say how a run stands.")
"""

import argparse
import sys
import textwrap
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
        hints = "".join(f"\n  {hint}" for hint in self._hints())
        self.exit(2, f"error: {message}{hints}\n{self.format_usage()}")

    def _hints(self) -> list[str]:
        """What each option that does not exist probably meant."""
        options = [option for action in self._actions for option in action.option_strings]
        takes_settings = any(action.dest == "overrides" for action in self._actions)
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


def _setting(name: str) -> str:
    """The setting that is meant by its last name, or nothing."""
    from launch.config.schema import suggestion  # only a mistake needs them
    from launch.recipe import Recipe

    return suggestion(Recipe, (name,))
