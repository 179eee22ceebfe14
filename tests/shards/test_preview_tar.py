import io
import json

from PIL import Image

from shards.index import iter_samples
from shards.journal import Preview, Step
from shards.names import sample_key
from shards.pack import pack
from shards.preview_tar import PreviewSpool, write_preview_tar
from shards.review_entries import read_previews

from .wild_pictures import Remembering, make_pictures, pack_config


def jpeg(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def test_previews_are_written_in_the_order_of_the_items(tmp_path):
    spool = PreviewSpool(tmp_path / "spool")
    spool.begin([])
    red, blue = jpeg("red"), jpeg("blue")
    steps = [
        Step("z <b>.jpg", None, figures={"a": 0.5}, eyes="swapped", preview=spool.append(red)),
        Step("caf\udce9.jpg", None, reason="unreadable", figures={"error": "cut"}),
        Step("a.jpg", None, reason="flat", preview=spool.append(blue)),
    ]
    spool.close()
    write_preview_tar(tmp_path / "previews.tar", steps, {sample_key("z <b>.jpg"): "val"}, spool)
    with (tmp_path / "previews.tar").open("rb") as file:
        found = list(iter_samples(file))
    assert [sample.key for sample in found] == [sample_key(step.name) for step in steps]
    assert [sample.members.get("jpg") for sample in found] == [red, None, blue]
    assert [json.loads(sample.members["json"]) for sample in found] == [
        {"name": "z <b>.jpg", "split": "val", "reason": None, "eyes": "swapped", "figures": {"a": 0.5}},
        {
            "name": r"caf\udce9.jpg",
            "split": None,
            "reason": "unreadable",
            "eyes": None,
            "figures": {"error": "cut"},
        },
        {"name": "a.jpg", "split": None, "reason": "flat", "eyes": None, "figures": {}},
    ]
    first = (tmp_path / "previews.tar").read_bytes()
    write_preview_tar(tmp_path / "previews.tar", steps, {sample_key("z <b>.jpg"): "val"}, spool)
    assert (tmp_path / "previews.tar").read_bytes() == first
    assert [entry.name for entry in read_previews(str(tmp_path))] == ["z <b>.jpg", r"caf\udce9.jpg", "a.jpg"]


def test_previews_that_are_not_there_any_more_are_noticed(tmp_path):
    spool = PreviewSpool(tmp_path / "spool")
    steps = [Step("a", None), Step("b", None, preview=Preview(0, 3, 0)), Step("c", None)]
    assert spool.num_good(steps) == 1
    spool.begin([])
    steps[1] = Step("b", None, preview=spool.append(b"abc"))
    steps.append(Step("d", None, preview=spool.append(b"defg")))
    spool.close()
    assert spool.num_good(steps) == 4
    (tmp_path / "spool").write_bytes(b"abcdefX")
    assert spool.num_good(steps) == 3
    spool.begin(steps[:3])
    assert spool.append(b"new").offset == 3
    spool.close()


def test_packing_writes_every_item_with_its_verdict(tmp_path):
    out = tmp_path / "set"
    report = pack(pack_config(make_pictures(tmp_path / "pictures", num=4), out), executor=Remembering())
    entries = {}
    with (out / "previews.tar").open("rb") as file:
        for sample in iter_samples(file):
            entries[sample.key] = json.loads(sample.members["json"])
    names = ["p00_L.jpg", "p01_L.jpg", "p02_L.jpg", "p03_L.jpg", "twice3_L.jpg"]
    assert list(entries) == [sample_key(name) for name in names]
    verdicts = [entries[sample_key(name)] for name in names]
    assert [verdict["reason"] for verdict in verdicts] == [None] * 4 + ["identical"]
    counts = {split: sum(verdict["split"] == split for verdict in verdicts) for split in ("train", "val")}
    assert counts == report.accepted
    assert verdicts[0]["eyes"] == "as_given"
    assert "known_share" in verdicts[0]["figures"]
    assert "left_hw" in verdicts[4]["figures"]
