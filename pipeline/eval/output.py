"""Predictions as files: which pictures, under which names, and what is written for each.

For `PHOTO.jpg` three files appear in the output folder:

- `PHOTO.inverse_depth.png`: 16-bit grey, relative inverse depth, larger = nearer; 0..65535 spans this picture's least
  to greatest value (a constant prediction is all 0). A text chunk of the file says so.
- `PHOTO.colour.png`: the same in colour, red = near, blue = far.
- `PHOTO.side_by_side.jpg`: the picture beside its colour map, for looking at (long side of each at most 2048 pixels).

    failures = list(predict_pictures(predict, find_pictures([Path("album")]), Path("depth")))
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from pipeline.eval.colour import colourise
from pipeline.eval.whdr import Predict
from shards.errors import DataError, DecodeError, RunError
from shards.images import read_picture, scale_down

__all__ = ["PictureJob", "encode_inverse_depth", "find_pictures", "predict_pictures", "write_prediction"]

PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".jps", ".mpo", ".png", ".ppm", ".tif", ".tiff", ".webp"})
INVERSE_DEPTH_SUFFIX = ".inverse_depth.png"
COLOUR_SUFFIX = ".colour.png"
SIDE_BY_SIDE_SUFFIX = ".side_by_side.jpg"
SIDE_LIMIT_PX = 2048
DESCRIPTION = "relative inverse depth, larger = nearer; 0..65535 spans the least to the greatest value of this picture"


class PictureJob(NamedTuple):
    """A picture to predict."""

    path: Path
    stem: Path
    """Relative path of its output files, without their suffixes."""


def find_pictures(paths: Sequence[Path]) -> list[PictureJob]:
    """Pictures given one by one, and those of folders with all below them, in order of their names.

    The output of a picture has the picture's name without its extension, below the sub-folder where it lies; where
    two pictures would share it, both keep their extension. What an earlier prediction has written is not a picture.

    Raises:
        DataError: a path is missing, a folder holds no picture, or two pictures would still share one output.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            inside = {file: file.relative_to(path) for file in sorted(_pictures_below(path))}
            if not inside:
                raise DataError(f"{path}: no picture in this folder ({', '.join(sorted(PICTURE_SUFFIXES))})")
            found.update(inside)
        elif path.is_file():
            found[path] = Path(path.name)
        else:
            raise DataError(f"{path}: no such picture or folder")
    shared = Counter(name.with_suffix("") for name in found.values())
    jobs = [
        PictureJob(path, name if shared[name.with_suffix("")] > 1 else name.with_suffix(""))
        for path, name in found.items()
    ]
    doubled = [stem for stem, count in Counter(job.stem for job in jobs).items() if count > 1]
    if doubled:
        raise DataError(f"several of the given pictures are called {doubled[0]}; predict them into different folders")
    return jobs


def predict_pictures(predict: Predict, jobs: Sequence[PictureJob], out: Path) -> Iterator[str]:
    """Predict and write each picture; one that fails does not end the rest.

    Args:
        predict: the predictor.
        jobs: from `find_pictures`.
        out: folder of the output.

    Yields:
        For each picture that failed, which and why.

    Raises:
        RunError: the output cannot be written, so going on is useless.
    """
    for job in jobs:
        try:
            image = read_picture(job.path)
            write_prediction(out / job.stem, image, predict(image))
        except DecodeError as error:
            yield str(error)
        except ValueError as error:
            yield f"{job.path}: {error}"
        except OSError as error:
            raise RunError(
                f"{out}: cannot write the prediction of {job.path.name} ({error.strerror or error})"
            ) from error


def encode_inverse_depth(inverse_depth: NDArray[Any]) -> NDArray[np.uint16]:
    """Stretch a finite map (H, W) to 0..65535; a constant one becomes 0.

    Raises:
        ValueError: a value is not finite.
    """
    values = inverse_depth.astype(np.float64)
    low, high = values.min(), values.max()
    if not np.isfinite([low, high]).all():
        raise ValueError("the prediction holds values that are not finite; the network has diverged")
    span = high - low
    stretched: NDArray[np.uint16] = np.rint((values - low) / (span if span > 0 else 1) * 65535).astype(np.uint16)
    return stretched


def write_prediction(stem: Path, image: NDArray[np.uint8], inverse_depth: NDArray[Any]) -> list[Path]:
    """Write the three files of a prediction, folders included.

    Args:
        stem: path of the files without their suffixes.
        image: (H, W, 3) RGB.
        inverse_depth: (H, W), larger = nearer.

    Returns:
        The files.

    Raises:
        ValueError: a value is not finite.
        OSError: a file cannot be written.
    """
    values = encode_inverse_depth(inverse_depth)
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = [stem.with_name(stem.name + s) for s in (INVERSE_DEPTH_SUFFIX, COLOUR_SUFFIX, SIDE_BY_SIDE_SUFFIX)]
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Description", DESCRIPTION)
    colour = colourise(inverse_depth)
    Image.fromarray(values).save(files[0], pnginfo=notes)
    Image.fromarray(colour).save(files[1])
    both = np.concatenate([scale_down(image, SIDE_LIMIT_PX), scale_down(colour, SIDE_LIMIT_PX)], axis=1)
    Image.fromarray(both).save(files[2], quality=92)
    return files


def _pictures_below(folder: Path) -> Iterator[Path]:
    ours = (INVERSE_DEPTH_SUFFIX, COLOUR_SUFFIX, SIDE_BY_SIDE_SUFFIX)
    for file in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.suffix.lower() in PICTURE_SUFFIXES and not hidden and not file.name.endswith(ours) and file.is_file():
            yield file
