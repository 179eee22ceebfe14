"""TensorBoard event files, written in the foreground.

    log = TensorBoardLog(run_dir / "tb", session=2, purge_step=1201)
    log.scalars({"train/loss": 0.43}, step=1250)

torch's `SummaryWriter` puts the machine's name into the file's name and writes from a thread of its own, where a full
disk ends in a traceback. Here an error reaches the caller, who can warn and go on, and the file stays readable. It also
opens a folder with a time in its name for each table of settings; here the table belongs to the run's own curves.

Whatever stands in a file at `purge_step` or later is hidden once a later file of the folder says so. So what a run has
once (texts, layout, settings) is written at its last step: the next session, which begins before, replaces it.
"""

import io
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]
from torch.utils.tensorboard import summary

from pipeline.train.append import AppendFile
from pipeline.train.histograms import Histogram
from pipeline.train.settings_table import experiment, run_end, run_start

__all__ = ["TensorBoardLog"]


class TensorBoardLog:
    """One event file a session. Each method raises OSError where it could not be written."""

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
        """Add one point to each curve."""
        for tag, value in values.items():
            self._add(step=step, summary=summary.scalar(tag, value))

    def picture(self, tag: str, jpeg: bytes, size_hw: tuple[int, int], step: int) -> None:
        """Add a JPEG picture of a height and width in pixels."""
        height, width = size_hw
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=jpeg)
        self._add(step=step, summary=Summary(value=[Summary.Value(tag=tag, image=image)]))

    def histogram(self, tag: str, histogram: Histogram, step: int) -> None:
        """Add a histogram; its moments are those of the middles of its bins."""
        edges, counts = histogram
        middles = (edges[:-1] + edges[1:]) / 2
        self._add(
            step=step,
            summary=summary.histogram_raw(
                tag,
                min=edges[0],
                max=edges[-1],
                num=counts.sum(),
                sum=float(np.dot(counts, middles)),
                sum_squares=float(np.dot(counts, middles**2)),
                bucket_limits=edges[1:].tolist(),
                bucket_counts=counts.tolist(),
            ),
        )

    def text(self, tag: str, text: str, step: int) -> None:
        """Add a text in Markdown."""
        self._add(step=step, summary=summary.text(tag, text))

    def layout(self, charts: Mapping[str, Mapping[str, Sequence[str]]], step: int) -> None:
        """Put curves together: category -> chart -> regular expressions of tags."""
        content = {
            category: {title: ["Multiline", list(tags)] for title, tags in rows.items()}
            for category, rows in charts.items()
        }
        self._add(step=step, summary=summary.custom_scalars(content))

    def settings_table(
        self,
        settings: Mapping[str, float | str | bool],
        first: Sequence[str],
        metrics: Mapping[str, str],
        step: int,
    ) -> None:
        """Begin the run's row in the table of settings (HPARAMS): settings, those of `first` first, figures by tag."""
        self._add(step=step, summary=experiment(settings, first, metrics))
        self._add(step=step, summary=run_start(settings))

    def complete(self, step: int) -> None:
        """Mark the run's row in that table as successful."""
        self._add(step=step, summary=run_end())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _add(self, **fields: Any) -> None:
        record = io.BytesIO()
        RecordWriter(record).write(Event(wall_time=time.time(), **fields).SerializeToString())
        self._file.append(record.getvalue())
