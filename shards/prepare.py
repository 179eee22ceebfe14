"""One raw item to one sample, or to the reason why not: the unit of work of packing.

A pure function of the pictures and the settings, so that it may run in any process on any machine. Any fault of a
picture ends as a reject with figures; only mistakes of the program or of the settings raise.

Usage:

    prepared = prepare(item, config)          # prepared.sample, or prepared.reason
"""

import signal
from functools import lru_cache

import cv2

from shards.config import PackConfig
from shards.errors import DecodeError
from shards.prepared import Prepared
from shards.sources import Item, LabelledPicture, Source, open_source
from shards.sources.config import SourceConfig
from shards.stereo import label_stereo

__all__ = ["begin_worker", "prepare"]


def prepare(item: Item, config: PackConfig) -> Prepared:
    """Decode, judge and label one item."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the processes share the cores, and the flow shall not depend on their number
    try:
        loaded = _source(config.source).load(item)
        if isinstance(loaded, LabelledPicture):
            raise NotImplementedError
        return label_stereo(item, loaded, config)
    except DecodeError as error:
        return Prepared(item, reason="unreadable", figures={"error": str(error)})
    except cv2.error as error:
        return Prepared(item, reason="unmatchable", figures={"error": str(error.err)})
    finally:
        cv2.setNumThreads(threads)


def begin_worker() -> None:
    """Prepare a process of a pool: Ctrl-C reaches the whole group, but the packing process decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@lru_cache(maxsize=4)
def _source(config: SourceConfig) -> Source:
    return open_source(config)
