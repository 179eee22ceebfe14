"""One raw item to one sample, or to the reason why not: the unit of work of packing.

A pure function of the pictures and the settings, so that it may run in any process on any machine. Any fault of a
picture ends as a reject with figures; only mistakes of the program or of the settings raise.

Usage:

    prepared = prepare(item, config)          # prepared.sample, or prepared.reason
"""

from functools import lru_cache

import cv2

from shards.config import PackConfig
from shards.errors import DecodeError
from shards.labelled import label_picture
from shards.one_thread import one_opencv_thread
from shards.prepared import Prepared
from shards.sources import Item, LabelledPicture, Source, open_source
from shards.sources.config import SourceConfig
from shards.stereo import label_stereo

__all__ = ["opened_source", "prepare"]


def prepare(item: Item, config: PackConfig) -> Prepared:
    """Decode, judge and label one item."""
    try:
        loaded = opened_source(config.source).load(item)
        with one_opencv_thread():
            if isinstance(loaded, LabelledPicture):
                return label_picture(item, loaded, config)
            return label_stereo(item, loaded, config)
    except DecodeError as error:
        return Prepared(item, reason=error.reason, figures={"error": str(error)})
    except cv2.error as error:
        return Prepared(item, reason="unmatchable", figures={"error": str(error.err)})


@lru_cache(maxsize=4)
def opened_source(config: SourceConfig) -> Source:
    """The adapter for a source's settings, opened once a process and job: what it listed and read stays."""
    return open_source(config)
