import io
import zipfile

import numpy as np
import pytest
from PIL import Image
from PIL import __version__ as pillow_version

from shards.config import PackConfig
from shards.errors import DecodeError, SourceError
from shards.prepare import prepare
from shards.sources import Item, ReportsLeftovers, open_source
from shards.sources.config import CombinedSourceConfig

from .stereo_scene import stereo_pair, texture

SIZE = {"wall_px": 8.0, "lean_px": 12.0, "boxes": ((80, 220, 100, 200, 28.0), (180, 320, 280, 400, 18.0))}


@pytest.fixture(scope="module")
def eyes():
    return stereo_pair(360, 480, **SIZE)[:2]


def source(path, **settings):
    return open_source(CombinedSourceConfig(kind="combined", path=str(path), **settings))


def load(path, **settings):
    return source(path.parent, **settings).load(Item(path.name))


def save_mpo(path, *frames, **options):
    if tuple(map(int, pillow_version.split(".")[:2])) < (11, 3):
        pytest.skip("this Pillow writes all frames of an MPO but the first in a quality of its own, or damaged")
    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(path, "MPO", save_all=True, append_images=rest, quality=97, subsampling=0, **options)


def save(path, rgb, **options):
    Image.fromarray(rgb).save(path, "JPEG" if path.suffix == ".jps" else None, quality=97, subsampling=0, **options)


def close(one, two, levels=4.0):
    return one.shape == two.shape and np.abs(one.astype(int) - two).mean() < levels


def reason(path, **settings):
    with pytest.raises(DecodeError) as caught:
        load(path, **settings)
    assert path.name in str(caught.value) and str(path) not in str(caught.value)
    return caught.value.reason


def test_an_mpo_gives_its_two_frames(tmp_path, eyes):
    save_mpo(tmp_path / "a.mpo", *eyes)
    pair = load(tmp_path / "a.mpo")
    assert close(pair.left, eyes[0]) and close(pair.right, eyes[1])
    assert pair.meta == {"layout": "mpo", "frames": [0, 1]}
    assert pair.left_jpeg is None and pair.right_jpeg is None
    assert load(tmp_path / "a.mpo", layout="mpo").meta == pair.meta


def test_an_mpo_is_known_by_its_content(tmp_path, eyes):
    save_mpo(tmp_path / "a.jpg", *eyes)
    assert load(tmp_path / "a.jpg").meta["layout"] == "mpo"


def test_previews_of_an_mpo_are_no_views(tmp_path, eyes):
    small = np.ascontiguousarray(eyes[0][::2, ::2])
    for name, frames, views in (("a.mpo", (small, *eyes), [1, 2]), ("b.mpo", (*eyes, small), [0, 1])):
        save_mpo(tmp_path / name, *frames)
        pair = load(tmp_path / name)
        assert pair.meta["frames"] == views
        assert close(pair.left, eyes[0]) and close(pair.right, eyes[1])


def test_a_broken_preview_does_no_harm_and_a_broken_view_does(tmp_path, eyes):
    save_mpo(tmp_path / "a.mpo", *eyes, np.ascontiguousarray(eyes[0][::2, ::2]))
    data = (tmp_path / "a.mpo").read_bytes()
    *_, second, third = (at for at in range(len(data)) if data.startswith(b"\xff\xd8\xff", at))
    (tmp_path / "a.mpo").write_bytes(data[:third])
    assert load(tmp_path / "a.mpo").meta["frames"] == [0, 1]
    (tmp_path / "a.mpo").write_bytes(data[:second])
    assert reason(tmp_path / "a.mpo") == "unreadable"


def test_a_frame_without_orientation_is_turned_with_the_first(tmp_path, eyes):
    exif = Image.Exif()
    exif[0x0112] = 6
    save_mpo(tmp_path / "a.mpo", *(np.ascontiguousarray(np.rot90(eye)) for eye in eyes), exif=exif)
    pair = load(tmp_path / "a.mpo")
    assert close(pair.left, eyes[0]) and close(pair.right, eyes[1])


def test_an_mpo_whose_second_view_is_cut_off_is_unreadable(tmp_path, eyes):
    save_mpo(tmp_path / "a.mpo", *eyes)
    data = (tmp_path / "a.mpo").read_bytes()
    for share in (0.9, 0.6):
        (tmp_path / "a.mpo").write_bytes(data[: int(len(data) * share)])
        assert reason(tmp_path / "a.mpo") == "unreadable"
    (tmp_path / "a.mpo").write_bytes(b"")
    assert reason(tmp_path / "a.mpo") == "unreadable"


def test_an_mpo_with_one_view_is_no_stereo(tmp_path, eyes):
    save_mpo(tmp_path / "gainmap.jpg", eyes[0], np.ascontiguousarray(eyes[1][::2, ::2]))
    assert reason(tmp_path / "gainmap.jpg") == "not_stereo"
    save(tmp_path / "b.mpo", eyes[0])
    assert reason(tmp_path / "b.mpo", layout="mpo") == "not_stereo"


@pytest.mark.parametrize("name", ["a.jps", "a_sbs.png", "a.left-right.jpg", "wide.jpg"])
def test_side_by_side_is_known_by_name_or_shape(tmp_path, eyes, name):
    save(tmp_path / name, np.concatenate(eyes, axis=1))
    pair = load(tmp_path / name)
    assert close(pair.left, eyes[0]) and close(pair.right, eyes[1])
    assert pair.meta == {"layout": "side_by_side", "halves": ["left", "right"]}


@pytest.mark.parametrize("name", ["a_tb.png", "a.top-bottom.jpg", "high.jpg"])
def test_top_bottom_is_known_by_name_or_shape(tmp_path, eyes, name):
    save(tmp_path / name, np.concatenate(eyes, axis=0))
    pair = load(tmp_path / name)
    assert close(pair.left, eyes[0]) and close(pair.right, eyes[1])
    assert pair.meta == {"layout": "top_bottom", "halves": ["top", "bottom"]}


def squeeze(rgb, axis):
    size = (rgb.shape[1] // 2, rgb.shape[0]) if axis == 1 else (rgb.shape[1], rgb.shape[0] // 2)
    return np.array(Image.fromarray(rgb).resize(size, Image.Resampling.BOX))


@pytest.mark.parametrize(
    ("name", "axis", "layout"), [("a_hsbs.png", 1, "side_by_side"), ("a_hou.png", 0, "top_bottom")]
)
def test_squeezed_views_get_their_shape_back(tmp_path, eyes, name, axis, layout):
    both = np.concatenate([squeeze(eye, axis) for eye in eyes], axis=axis)
    save(tmp_path / name, both)
    pair = load(tmp_path / name)
    assert pair.left.shape == eyes[0].shape and pair.meta["stretched"] is True
    assert close(pair.left, eyes[0], 12) and close(pair.right, eyes[1], 12)
    save(tmp_path / "plain.png", both)
    assert load(tmp_path / "plain.png", layout=layout, views="half").left.shape == eyes[0].shape
    full = load(tmp_path / name, views="full")
    assert full.left.shape == squeeze(eyes[0], axis).shape and "stretched" not in full.meta


def test_the_setting_has_the_last_word(tmp_path, eyes):
    save(tmp_path / "a_tb.png", np.concatenate(eyes, axis=1))
    assert load(tmp_path / "a_tb.png", layout="side_by_side").meta["layout"] == "side_by_side"
    assert reason(tmp_path / "a_tb.png", layout="top_bottom") == "not_stereo"
    assert load(tmp_path / "a_tb.png").meta["layout"] == "side_by_side"  # the name errs, the halves show it


def test_what_is_no_stereo_is_refused_with_the_reason(tmp_path, eyes):
    save(tmp_path / "single.jpg", eyes[0])
    save(tmp_path / "panorama.jpg", texture(200, 800, 1).astype(np.uint8))
    save(tmp_path / "panorama_sbs.jpg", texture(200, 800, 1).astype(np.uint8))
    assert [reason(tmp_path / f"{name}.jpg") for name in ("single", "panorama", "panorama_sbs")] == ["not_stereo"] * 3
    grey = [np.repeat(eye[..., 1:2], 3, axis=2) for eye in eyes]
    anaglyph = grey[0].copy()
    anaglyph[..., 0] = grey[1][..., 0]
    save(tmp_path / "a.jpg", anaglyph)
    assert reason(tmp_path / "a.jpg") == "anaglyph"
    assert reason(tmp_path / "a.jpg", layout="side_by_side") == "anaglyph"


def test_reasons_reach_the_rejects_and_pairs_become_samples(tmp_path, eyes):
    save(tmp_path / "single.jpg", eyes[0])
    save_mpo(tmp_path / "good.mpo", *eyes)
    settings = {"kind": "combined", "path": str(tmp_path), "eyes": "as_given"}
    config = PackConfig.model_validate({"out": "x", "source": settings})
    good, single = (prepare(item, config) for item in open_source(config.source).items())
    assert single.reason == "not_stereo" and "neither its name nor its shape" in single.figures["error"]
    assert good.reason is None
    assert good.sample.meta["name"] == "good.mpo"
    assert good.sample.meta["about"] == {"layout": "mpo", "frames": [0, 1]}


def test_listing_takes_the_extensions_and_names_the_rest(tmp_path):
    for name in ("b.MPO", "deep/a.jps", "notes.txt", "old.gif", ".hidden.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    folder = source(tmp_path)
    assert folder.items() == [Item("b.MPO"), Item("deep/a.jps")]
    assert folder.leftovers() == {"hidden": [".hidden.jpg"], "other_extension": ["notes.txt", "old.gif"]}
    assert isinstance(folder, ReportsLeftovers)
    assert [item.name for item in source(tmp_path, extensions=["gif"]).items()] == ["old.gif"]
    with pytest.raises(
        SourceError, match=r"no file with \.webp .*saw 4 others, such as b\.MPO; set source\.extensions"
    ):
        source(tmp_path, extensions=["webp"]).items()
    with pytest.raises(ValueError, match="lower-case extension"):
        CombinedSourceConfig(kind="combined", path="x", extensions=(".JPG",))


def test_an_archive_of_such_files_reads_the_same(tmp_path, eyes):
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(eyes, axis=1)).save(buffer, "PNG")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("deep/a_sbs.png", buffer.getvalue())
    packed = source(tmp_path / "x.zip")
    (item,) = packed.items()
    assert (packed.load(item).right == eyes[1]).all()


@pytest.mark.data
def test_every_real_file_is_taken_apart_or_refused_with_its_reason(real_data):
    folder = source(real_data / "webstereo" / "formats")
    found = {}
    for item in folder.items():
        try:
            pair = folder.load(item)
            found[item.name] = pair.meta["layout"]
            assert pair.left.shape == pair.right.shape
        except DecodeError as error:
            found[item.name] = error.reason
    assert folder.leftovers() == {}
    assert found.pop("empty_file.jpg") == "unreadable"
    assert found.pop("persepolis.anaglyph.jpg") == "anaglyph"
    assert found.pop("walrus-360.top-bottom.jpg") == "equirectangular"
    assert set(found.values()) == {"mpo", "side_by_side"}
    assert {name for name, layout in found.items() if layout == "mpo"} == {
        name for name in found if name.lower().endswith(".mpo")
    }
    assert len(found) == 13
