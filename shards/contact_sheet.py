"""A contact sheet: accepted pictures beside their disparity, for a look before hours of training.

A fixed choice of the samples (the smallest hashes of their keys), so that the sheet shows an unbiased sample of the set
and is the same whenever the set is packed. Red is near, blue is far, black is unknown.

Usage:

    sheet = ContactSheet(); sheet.offer(sample); jpeg = sheet.render()
"""

import io

from PIL import Image, ImageDraw, ImageFont

from shards.format import Sample, decode_jpeg
from shards.images import scale_down
from shards.preview import turbo
from shards.randomness import digest_key

__all__ = ["ContactSheet"]

_THUMB_PX = 200
_CAPTION_PX = 30
_COLUMNS = 4


class ContactSheet:
    """Keeps thumbnails of at most `limit` of the samples it is offered."""

    def __init__(self, limit: int = 60) -> None:
        self._limit = limit
        self._tiles: dict[bytes, tuple[str, list[str], Image.Image]] = {}

    def wants(self, key: str) -> bool:
        """Whether the sample of this key would be drawn, among those offered so far."""
        return len(self._tiles) < self._limit or _rank(key) <= max(self._tiles)

    def offer(self, sample: Sample) -> None:
        """Take a sample into the draw."""
        if not self.wants(sample.key):
            return
        self._tiles[_rank(sample.key)] = (sample.key, _caption(sample), _tile(sample))
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


def _rank(key: str) -> bytes:
    return digest_key("contact sheet", key)


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
        coloured = Image.fromarray(turbo(sample.disparity, sample.disparity > 0)).resize(size, Image.Resampling.NEAREST)
        tile.paste(coloured, (thumb.shape[1] + 2, 0))
    return tile
