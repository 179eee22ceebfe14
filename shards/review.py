"""A contact sheet: accepted pictures beside their disparity, for a look before hours of training.

A fixed choice of the samples (the smallest hashes of their keys), so that the sheet shows an unbiased sample of the set
and is the same whenever the set is packed. Red is near, blue is far, black is unknown.

Usage:

    sheet = ContactSheet(); sheet.offer(sample); jpeg = sheet.render()
"""

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from shards.format import Sample, decode_jpeg
from shards.images import scale_down
from shards.randomness import digest_key

__all__ = ["ContactSheet", "turbo"]

_THUMB_PX = 200
_CAPTION_PX = 30
_COLUMNS = 4


def turbo(disparity: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Colour uint16 (H, W) disparity codes: P2..P98 from blue (far) to red (near), unknown black; uint8 (H, W, 3)."""
    known = disparity > 0
    low, high = np.percentile(disparity[known], (2, 98)) if known.any() else (0.0, 1.0)
    level = np.clip((disparity.astype(np.float64) - low) / max(float(high - low), 1.0), 0, 1)
    colours = cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    return np.where(known[..., None], colours, 0).astype(np.uint8)


class ContactSheet:
    """Keeps thumbnails of at most `limit` of the samples it is offered."""

    def __init__(self, limit: int = 60) -> None:
        self._limit = limit
        self._tiles: dict[bytes, tuple[str, list[str], Image.Image]] = {}

    def offer(self, sample: Sample) -> None:
        """Take a sample into the draw."""
        rank = digest_key("contact sheet", sample.key)
        if len(self._tiles) >= self._limit and rank > max(self._tiles):
            return
        self._tiles[rank] = (sample.key, _caption(sample), _tile(sample))
        if len(self._tiles) > self._limit:
            del self._tiles[max(self._tiles)]

    def render(self) -> bytes:
        """The sheet as JPEG, tiles in the order of their keys."""
        tiles = sorted(self._tiles.values(), key=lambda tile: tile[0])
        width, height = 2 * _THUMB_PX + 8, _THUMB_PX + _CAPTION_PX
        rows = -(-len(tiles) // _COLUMNS)
        sheet = Image.new("RGB", (_COLUMNS * width, max(rows, 1) * height), "white")
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
        for place, (_, caption, picture) in enumerate(tiles):
            x, y = place % _COLUMNS * width, place // _COLUMNS * height
            for line, text in enumerate(caption):
                draw.text((x + 2, y + 13 * line), text, fill="black", font=font)
            sheet.paste(picture, (x, y + _CAPTION_PX))
        buffer = io.BytesIO()
        sheet.save(buffer, "JPEG", quality=85)
        return buffer.getvalue()


def _caption(sample: Sample) -> list[str]:
    name = str(sample.meta.get("name", sample.key))
    figures = sample.meta.get("figures", {})
    known = float((sample.disparity > 0).mean()) if sample.disparity is not None else 0.0
    parts = [f"eyes {sample.meta.get('eyes', '?')}", f"known {known:.0%}"]
    if "eyes_z" in figures:
        parts[0] += f" ({figures['eyes_z']:+.1f})"
    if "disparity_p2_px" in figures:
        parts.append(f"{figures['disparity_p2_px']:.1f}..{figures['disparity_p98_px']:.1f} px")
    if "vertical_share" in figures:
        parts.append(f"vertical {figures['vertical_share']:.1%}")
    return [name if len(name) <= 56 else "…" + name[-55:], ", ".join(parts)]


def _tile(sample: Sample) -> Image.Image:
    picture = decode_jpeg(sample.image)
    tile = Image.new("RGB", (2 * _THUMB_PX, _THUMB_PX), "white")
    thumb = scale_down(picture, _THUMB_PX)
    tile.paste(Image.fromarray(thumb), (0, 0))
    if sample.disparity is not None:
        size = (thumb.shape[1], thumb.shape[0])
        coloured = Image.fromarray(turbo(sample.disparity)).resize(size, Image.Resampling.NEAREST)
        tile.paste(coloured, (thumb.shape[1] + 2, 0))
    return tile
