"""The front end of the settings: YAML files, overrides, and messages a person can act on.

It knows no particular setting: `resolve(schema, path, overrides)` serves any pydantic schema, and `launch.recipe`
gives it the project's.
"""

from launch.config.report import provenance, render
from launch.config.resolve import Resolved, resolve

__all__ = ["Resolved", "provenance", "render", "resolve"]
