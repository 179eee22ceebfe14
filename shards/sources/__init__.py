"""Adapters of raw collections, one a layout.

Usage:

    source = open_source(config.source)
"""

from importlib import import_module

from shards.sources.base import Item, LabelledPicture, ReportsLeftovers, Source, StereoPair
from shards.sources.config import SourceConfig

__all__ = ["Item", "LabelledPicture", "ReportsLeftovers", "Source", "StereoPair", "open_source"]

_ADAPTERS = {  # kind -> module and class; loaded only where it is used
    "folder": ("folder", "FolderSource"),
    "combined": ("combined", "CombinedSource"),
    "redweb": ("redweb", "RedwebSource"),
    "hrwsi": ("hrwsi", "HrwsiSource"),
    "diw": ("diw", "DiwSource"),
    "nyu_ordinal": ("nyu_ordinal", "NyuOrdinalSource"),
    "nyu_rgbd": ("nyu_rgbd", "NyuRgbdSource"),
    "da2k": ("da2k", "Da2kSource"),
    "truth": ("truth", "TruthSource"),
    "synthetic": ("synthetic", "SyntheticSource"),
}


def open_source(config: SourceConfig) -> Source:
    """The adapter for a source's settings; nothing is read yet."""
    module, adapter = _ADAPTERS[config.kind]
    source: Source = getattr(import_module(f"shards.sources.{module}"), adapter)(config)
    return source
