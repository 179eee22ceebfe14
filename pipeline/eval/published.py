"""Figures that others have published, printed beside ours where the protocol is the same.

`zero_shot` says whether the method had seen training pictures of the set that it is measured on. Most come from tables,
some from notes that quote one; `source` tells. None of them was measured by this project but those marked so.

    for figure in published_for("diw", "diw", 74_441): ...
"""

from typing import NamedTuple

__all__ = ["Published", "published_for"]

_XIAN = "Xian et al. 2018, DIW test; the input size of its own network is not told"
_XIAN_NYU = "Xian et al. 2018, table of NYUDv2"
_MIDAS = "Ranftl et al., TPAMI 2022"
_DPT = "Ranftl et al., ICCV 2021"
_MIDAS31 = "MiDaS v3.1 report"
_DA2K = "notes that quote Yang et al. 2024; second hand, and no official evaluation code exists"
_FASTDEPTH = "FastDepth (Wofk et al. 2019), measured by this project on these pictures; its pairs are other draws"


class Published(NamedTuple):
    """One method on one set."""

    method: str
    values: tuple[float, ...]
    """In the unit of the table, in the order of the first metrics of the protocol."""
    zero_shot: bool | None
    """None for what learns nothing."""
    source: str

    @property
    def setting(self) -> str:
        """`zero-shot`, `in-domain`, or `no training`."""
        return "no training" if self.zero_shot is None else "zero-shot" if self.zero_shot else "in-domain"


def _rows(source: str, *rows: tuple[str, float | tuple[float, ...], bool | None]) -> tuple[Published, ...]:
    return tuple(
        Published(method, value if isinstance(value, tuple) else (value,), zero_shot, source)
        for method, value, zero_shot in rows
    )


_TABLES: dict[str, tuple[Published, ...]] = {
    "diw": _rows(
        _XIAN,
        ("lower point is closer", 31.37, None),
        ("Chen NYU", 31.31, True),
        ("Xian NYU", 27.70, True),
        ("Eigen (V2)", 25.70, True),
        ("Chen DIW", 22.14, False),
        ("Xian WEB, 1 pair", 19.01, True),
        ("Xian DIW", 14.98, False),
        ("Chen NYU, DIW", 14.39, False),
        ("Xian WEB", 14.33, True),
        ("Xian WEB, DIW", 11.37, False),
    ),
    "diw_own": (
        *_rows(_DPT, ("Xian WEB", 14.59, True), ("DPT-Hybrid", 11.06, True), ("DPT-Large", 10.82, True)),
        *_rows(
            _MIDAS,
            ("MiDaS, ReDWeb only", 14.59, True),
            ("MiDaS, ResNet-50, 5 sets", 12.48, True),
            ("MiDaS, 5 sets", 12.46, True),
        ),
        *_rows(_MIDAS31, ("MiDaS Next-ViT-L 384", 10.31, True)),
    ),
    "nyu": _rows(
        _XIAN_NYU,
        ("Zoran", (43.5, 44.2, 41.2), False),
        ("Xian, plain ranking", (35.8, 36.0, 36.5), False),
        ("Chen", (35.6, 36.1, 36.5), False),
        ("Xian", (33.7, 34.6, 34.1), False),
        ("Chen 220K", (28.3, 30.6, 28.6), False),
        ("Xian 100K", (29.1, 29.5, 29.7), False),
        ("Eigen (V2)", (34.0, 43.3, 29.6), False),
    ),
    "da2k/overall": _rows(
        _DA2K,
        ("Marigold", 86.8, True),
        ("DepthFM", 85.8, True),
        ("Depth Anything V1", 88.5, True),
        ("Depth Anything V2-S", 95.3, True),
        ("Depth Anything V2-L", 97.1, True),
    ),
}

_FASTDEPTH_ON = {  # set -> number of pictures that it was measured on, WHDR, zero-shot
    "middlebury2006": (21, 32.4, True),
    "middlebury2001": (6, 27.0, True),
    "kitti2015": (1, 39.5, True),
    "nyu": (4, 17.8, False),
}


def published_for(kind: str, set_name: str, num_pictures: int, primary: str) -> tuple[Published, ...]:
    """Published figures for a set of a protocol.

    Args:
        kind: of the benchmark.
        set_name: the set in its table.
        num_pictures: how many the set has here; figures for a few pictures hold for just those.
        primary: name of the benchmark's first metric.
    """
    if kind == "gt":
        pictures, percent, zero_shot = _FASTDEPTH_ON.get(set_name, (0, 0.0, True))
        same = pictures == num_pictures and primary.startswith("whdr@0.02x")
        return _rows(_FASTDEPTH, ("FastDepth", percent, zero_shot)) if same else ()
    if kind == "da2k":
        return _TABLES["da2k/overall"] if set_name == "overall" else ()
    return _TABLES.get(kind, ())
