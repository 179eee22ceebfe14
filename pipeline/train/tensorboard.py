"""TensorBoard event files, written in the foreground.

    log = TensorBoardLog(run_dir / "tb", session=2, purge_step=1201)
    log.scalars({"train/loss": 0.43}, step=1250)

torch's `SummaryWriter` puts the machine's name into the file's name and writes from a thread of its own, where a full
disk ends in a traceback. Here an error reaches the caller, who can warn and go on, and the file stays readable.
"""

import io
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]
from torch.utils.tensorboard import summary

from pipeline.train.append import AppendFile

__all__ = ["TensorBoardLog"]


class TensorBoardLog:
    """One event file a session."""

    def __init__(self, folder: Path, *, session: int, purge_step: int) -> None:
        """Start an event file.

        Args:
            folder: Log directory of the run.
            session: Number of this session; part of the file's name.
            purge_step: TensorBoard hides what earlier sessions logged at this step and later, as it is done again.
        """
        now = int(time.time())
        path = folder / f"events.out.tfevents.{now:010d}.session{session:04d}.{os.getpid()}"
        self._file = AppendFile(path)
        try:
            self._add(file_version="brain.Event:2")
            self._add(step=purge_step, session_log=SessionLog(status=SessionLog.START))
        except OSError:
            self._file.close()
            path.unlink(missing_ok=True)
            raise

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add one point to each curve.

        Raises:
            OSError: It could not be written.
        """
        for tag, value in values.items():
            self._add(step=step, summary=summary.scalar(tag, value))

    def picture(self, tag: str, jpeg: bytes, size_hw: tuple[int, int], step: int) -> None:
        """Add a JPEG picture of a height and width in pixels.

        Raises:
            OSError: It could not be written.
        """
        height, width = size_hw
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=jpeg)
        self._add(step=step, summary=Summary(value=[Summary.Value(tag=tag, image=image)]))

    def text(self, tag: str, text: str) -> None:
        """Add a text in Markdown.

        Raises:
            OSError: It could not be written.
        """
        self._add(step=0, summary=summary.text(tag, text))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _add(self, **fields: Any) -> None:
        record = io.BytesIO()
        RecordWriter(record).write(Event(wall_time=time.time(), **fields).SerializeToString())
        self._file.append(record.getvalue())
