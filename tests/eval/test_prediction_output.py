import numpy as np
import pytest
from PIL import Image

from pipeline.eval.output import encode_inverse_depth, find_pictures, write_prediction
from shards.errors import DataError


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_the_png_holds_16_bit_inverse_depth_and_says_so(tmp_path):
    inverse_depth = np.linspace(-3, 5, 35 * 50, dtype=np.float32).reshape(35, 50)
    files = write_prediction(tmp_path / "sub" / "photo", np.zeros((35, 50, 3), np.uint8), inverse_depth)
    assert [file.name for file in files] == [
        "photo.inverse_depth.png",
        "photo.colour.png",
        "photo.side_by_side.jpg",
    ]
    with Image.open(files[0]) as image:
        assert image.mode == "I;16"
        assert "larger = nearer" in image.text["Description"]
        values = np.asarray(image)
    np.testing.assert_allclose(values / 65535, (inverse_depth + 3) / 8, atol=1e-5)
    with Image.open(files[1]) as image:
        assert (image.mode, image.size) == ("RGB", (50, 35))
    with Image.open(files[2]) as image:
        assert image.size == (100, 35)


def test_constant_predictions_are_zero_and_infinite_ones_refused():
    assert not encode_inverse_depth(np.full((2, 2), 4.0, np.float32)).any()
    with pytest.raises(ValueError, match="not finite"):
        encode_inverse_depth(np.array([[1.0, np.nan]]))
    with pytest.raises(ValueError, match="not finite"):
        encode_inverse_depth(np.array([[1.0, np.inf]]))


def test_a_giant_picture_gets_a_side_by_side_that_a_jpeg_can_hold(tmp_path):
    wide = np.zeros((2, 70_000, 3), np.uint8)
    files = write_prediction(tmp_path / "wide", wide, np.tile(np.arange(70_000, dtype=np.float32), (2, 1)))
    with Image.open(files[2]) as image:
        assert image.size[0] <= 4096


def test_pictures_of_folders_are_found_in_order_and_hidden_files_and_own_output_left_out(tmp_path):
    for name in ("b.JPG", "a.png", "sub/c.webp", "notes.txt", ".hidden.png", ".git/d.png", "a.colour.png"):
        touch(tmp_path / name)
    jobs = find_pictures([tmp_path])
    assert [(job.path.name, str(job.stem)) for job in jobs] == [("a.png", "a"), ("b.JPG", "b"), ("c.webp", "sub/c")]


def test_two_pictures_of_one_stem_keep_their_extension(tmp_path):
    for name in ("a.png", "a.jpg", "b.jpg"):
        touch(tmp_path / name)
    assert [str(job.stem) for job in find_pictures([tmp_path])] == ["a.jpg", "a.png", "b"]


def test_a_picture_given_twice_is_predicted_once(tmp_path):
    picture = touch(tmp_path / "a.png")
    assert len(find_pictures([picture, picture, tmp_path])) == 1


def test_equal_names_of_two_folders_are_refused(tmp_path):
    paths = [touch(tmp_path / "x" / "a.png"), touch(tmp_path / "y" / "a.png")]
    with pytest.raises(DataError, match=r"called a\.png"):
        find_pictures(paths)


def test_missing_paths_and_empty_folders_are_named(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such picture or folder"):
        find_pictures([tmp_path / "nowhere"])
    with pytest.raises(DataError, match="no picture in this folder"):
        find_pictures([tmp_path])
