import numpy as np
import pytest
from PIL import Image

from pipeline.eval.output import encode_inverse_depth, write_prediction
from pipeline.eval.prediction_files import DEFAULT_KINDS, KINDS, choose_kinds
from shards.errors import ConfigError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_png_holds_16_bit_inverse_depth_and_the_numbers_that_bring_it_back(tmp_path):
    inverse_depth = np.linspace(-3.1, 5, 35 * 50, dtype=np.float32).reshape(35, 50)
    files = write_prediction(tmp_path / "sub" / "photo", np.zeros((35, 50, 3), np.uint8), inverse_depth)
    assert [file.name for file in files] == ["photo.inverse_depth.png", "photo.colour.png", "photo.side_by_side.jpg"]
    with Image.open(files[0]) as image:
        assert image.mode == "I;16"
        assert "larger = nearer" in image.text["Description"]
        low, high = (float(image.text[f"InverseDepth{end}"]) for end in ("Min", "Max"))
        values = np.asarray(image)
    assert (low, high) == (inverse_depth.min(), inverse_depth.max())
    assert np.abs(low + values / 65535 * (high - low) - inverse_depth).max() <= 0.51 * (high - low) / 65535
    with Image.open(files[1]) as image:
        assert (image.mode, image.size) == ("RGB", (50, 35))
    with Image.open(files[2]) as image:
        assert image.size == (100, 35)


def test_constant_predictions_are_zero():
    assert not encode_inverse_depth(np.full((2, 2), 4.0, np.float32)).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_prediction_that_is_not_finite_is_refused_and_nothing_written(tmp_path, kind, value):
    with pytest.raises(ValueError, match="not finite"):
        write_prediction(tmp_path / "a", np.zeros((2, 2, 3), np.uint8), np.array([[1.0, 2], [3, value]]), (kind,))
    assert names(tmp_path) == []


def test_every_kind_is_written_under_its_name_and_nothing_is_left_beside(tmp_path):
    inverse_depth = np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)
    image = np.full((30, 40, 3), 90, np.uint8)
    files = write_prediction(tmp_path / "v1.2", image, inverse_depth, tuple(KINDS))
    assert names(tmp_path) == sorted(f"v1.2{kind.suffix}" for kind in KINDS.values()) == sorted(f.name for f in files)
    np.testing.assert_array_equal(np.load(tmp_path / "v1.2.inverse_depth.npy", allow_pickle=False), inverse_depth)
    with Image.open(tmp_path / "v1.2.colour.jpg") as jpeg, Image.open(tmp_path / "v1.2.colour.png") as png:
        assert jpeg.format == "JPEG" and jpeg.size == png.size == (40, 30)


def test_an_output_replaces_a_former_one_and_not_what_a_link_of_its_name_points_to(tmp_path):
    precious = tmp_path / "precious.npy"
    precious.write_bytes(b"mine")
    (tmp_path / "a.inverse_depth.npy").symlink_to(precious)
    write_prediction(tmp_path / "a", np.zeros((2, 2, 3), np.uint8), np.eye(2, dtype=np.float32), ("npy",))
    assert precious.read_bytes() == b"mine"
    np.testing.assert_array_equal(np.load(tmp_path / "a.inverse_depth.npy"), np.eye(2))


def test_a_giant_picture_gets_a_side_by_side_that_a_jpeg_can_hold_and_no_colour_jpeg(tmp_path):
    wide = np.zeros((2, 70_000, 3), np.uint8)
    inverse_depth = np.tile(np.arange(70_000, dtype=np.float32), (2, 1))
    files = write_prediction(tmp_path / "wide", wide, inverse_depth)
    with Image.open(files[2]) as image:
        assert image.size[0] <= 4096
    with pytest.raises(ValueError, match="more than a JPEG holds"):
        write_prediction(tmp_path / "wide", wide, inverse_depth, ("colour-jpg",))


def test_kinds_are_chosen_by_name_each_once():
    assert choose_kinds(" npy,png16,npy") == ("png16", "npy")
    assert choose_kinds(",".join(DEFAULT_KINDS)) == DEFAULT_KINDS
    with pytest.raises(ConfigError, match=r"no 'color' \(did you mean colour\?\)"):
        choose_kinds("png16,color")
    with pytest.raises(ConfigError, match="there are png16, npy"):
        choose_kinds("")
