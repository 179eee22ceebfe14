import io
import json
import tarfile

import numpy as np
import pytest

from shards import review_entries as module
from shards.errors import ShardError
from shards.format import Sample
from shards.images import encode_jpeg
from shards.preview import preview_strip
from shards.review_entries import Entry, flat_figures, read_previews, read_samples

STRIP = preview_strip(np.full((40, 50, 3), 90, dtype=np.uint8), None, None)


def tar(tmp_path, members):
    path = tmp_path / "previews.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return str(tmp_path)


def record(**fields):
    return json.dumps(fields).encode()


def test_previews_come_in_order_with_or_without_a_strip(tmp_path):
    url = tar(
        tmp_path,
        [
            ("b.jpg", STRIP),
            ("b.json", record(name="x/b_L.jpg", split="val", reason=None, eyes="swapped", figures={"eyes_z": 3})),
            ("a.json", record(name="a_L.jpg", split=None, reason="unreadable", figures={"error": "cut off"})),
        ],
    )
    assert list(read_previews(url)) == [
        Entry("x/b_L.jpg", "val", None, "swapped", {"eyes_z": 3}, STRIP, (40, 150)),
        Entry("a_L.jpg", None, "unreadable", None, {"error": "cut off"}),
    ]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("a.jpg", STRIP)], "preview a has no json"),
        ([("a.json", b"[]")], "no JSON object"),
        ([("a.json", b"{" * 100_000)], "it is not JSON"),
        ([("a.json", record()), ("a.jpg", b"GIF89a")], "not a JPEG"),
        ([("a.json", record()), ("a.jpg", STRIP[:20])], "the header is damaged"),
        ([("a.json", record()), ("b.json", record()), ("a.jpg", STRIP)], "sample a comes twice"),
        ([("../a.json", record())], "not of the form"),
        ([("a.json", b" " * (5 << 20))], "has more than"),
    ],
)
def test_damaged_and_hostile_previews_are_refused(tmp_path, members, said):
    with pytest.raises(ShardError, match=rf"previews\.tar: .*{said}"):
        list(read_previews(tar(tmp_path, members)))


def test_a_strip_that_claims_to_be_huge_is_refused(tmp_path):
    wide = encode_jpeg(np.zeros((8, 4100, 3), dtype=np.uint8), 50)
    with pytest.raises(ShardError, match="8 x 4100 pixels"):
        list(read_previews(tar(tmp_path, [("a.json", record()), ("a.jpg", wide)])))


def test_fields_of_other_types_and_numbers_without_end_are_dropped(tmp_path):
    text = b'{"name": 3, "split": [], "reason": {}, "eyes": 1, "figures": {"a": NaN, "b": 1e999, "c": -2.5}}'
    (entry,) = read_previews(tar(tmp_path, [("key.json", text)]))
    assert entry == Entry("key", figures={"a": None, "b": None, "c": -2.5})
    assert next(read_previews(tar(tmp_path, [("key.json", b'{"figures": 3, "name": "a\\nb"}')]))).name == "a\\nb"


def test_samples_and_rejects_serve_where_there_are_no_previews(tmp_path):
    image = encode_jpeg(np.full((60, 80, 3), (200, 20, 20), dtype=np.uint8), 90)
    disparity = np.tile(np.linspace(1, 60_000, 80).astype(np.uint16), (60, 1))
    meta = {"name": "a_L.jpg", "eyes": "as_given", "figures": {"eyes_z": 9.0}}
    samples = [("train", Sample("a", image, meta, disparity=disparity)), ("val", Sample("foreign", image, {}))]
    (tmp_path / "rejects.jsonl").write_bytes(record(name="r_L.jpg", reason="flat", figures={"range_share": 0.001}))
    first, second, third = read_samples(samples, str(tmp_path))
    assert (first.name, first.split, first.reason, first.eyes, first.figures) == (
        "a_L.jpg",
        "train",
        None,
        "as_given",
        {"eyes_z": 9.0},
    )
    assert first.strip_hw == (60, 240) and first.strip is not None
    assert (second.name, second.split, second.eyes) == ("foreign", "val", None)
    assert third == Entry("r_L.jpg", None, "flat", None, {"range_share": 0.001})
    (tmp_path / "rejects.jsonl").write_bytes(b'{"name": "a"}\n{"na')
    with pytest.raises(ShardError, match=r"rejects\.jsonl:2: it is not JSON"):
        list(read_samples([], str(tmp_path)))


def test_figures_become_flat_short_and_few():
    figures = {"a": 1, "b": {"c": 2.5, "d": {"e": 1}}, "l": [1, 2], "t": "x\n" * 500, "n": None, "yes": True}
    assert flat_figures(figures) == {
        "a": 1,
        "b.c": 2.5,
        "b.d": '{"e": 1}',
        "l": "[1, 2]",
        "t": ("x\\n" * 500)[:300],
        "n": None,
        "yes": True,
    }
    assert len(flat_figures({str(i): i for i in range(1000)})) == module._MAX_FIGURES
