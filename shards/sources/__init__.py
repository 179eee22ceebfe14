"""Adapters of raw collections, one a layout.

Usage:

    source = open_source(config.source)
"""

from shards.sources.base import Item, LabelledPicture, ReportsLeftovers, Source, StereoPair
from shards.sources.config import FolderSourceConfig, SourceConfig

__all__ = ["Item", "LabelledPicture", "ReportsLeftovers", "Source", "StereoPair", "open_source"]


def open_source(config: SourceConfig) -> Source:
    """The adapter for a source's settings; nothing is read yet."""
    if isinstance(config, FolderSourceConfig):
        from shards.sources.folder import FolderSource

        return FolderSource(config)
    from shards.sources.synthetic import SyntheticSource  # the renderer is loaded only where it is used

    return SyntheticSource(config)
