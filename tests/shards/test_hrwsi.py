import numpy as np
import pytest

from shards.disparity import decode_values
from shards.errors import DecodeError, SourceError

from .labelled_collection import open_kind, pack_kind, write_levels, write_picture

HEIGHT, WIDTH = 40, 60


def disparity(seed):
    levels = np.tile(np.linspace(0, 200, WIDTH), (HEIGHT, 1)) + np.random.default_rng(seed).integers(0, 50, (HEIGHT, 1))
    levels[:5] = 0
    return levels.astype(np.uint8)


def mask():
    valid = np.full((HEIGHT, WIDTH), 255, np.uint8)
    valid[:, :7] = 0
    return valid


@pytest.fixture
def hrwsi(tmp_path):
    root = tmp_path / "HR-WSI"
    for seed, (split, name) in enumerate((("train", "a"), ("train", "b"), ("val", "a"))):
        write_picture(root / split / "imgs" / f"{name}.jpg", HEIGHT, WIDTH, seed)
        write_levels(root / split / "gts" / f"{name}.png", disparity(seed))
        write_levels(root / split / "valid_masks" / f"{name}.png", mask())
    return root


def test_the_splits_are_those_of_the_set(hrwsi):
    (hrwsi / "train" / "valid_masks" / "b.png").unlink()
    source = open_kind("hrwsi", hrwsi)
    assert [(item.name, item.split) for item in source.items()] == [
        ("train/imgs/a.jpg", "train"),
        ("val/imgs/a.jpg", "val"),
    ]
    assert source.leftovers() == {"no_labels": ["train/imgs/b.jpg"], "no_picture": ["train/gts/b.png"]}


def test_zero_is_a_disparity_and_the_mask_alone_says_what_is_unknown(hrwsi):
    source = open_kind("hrwsi", hrwsi)
    picture = source.load(source.items()[1])
    np.testing.assert_array_equal(picture.codes > 0, mask() > 0)
    values = decode_values(picture.codes, picture.coding)
    np.testing.assert_array_equal(values[mask() > 0], disparity(1)[mask() > 0])
    assert (values == 0).any()


def test_16_bits_fit_too(hrwsi):
    levels = np.linspace(0, 65535, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    write_levels(hrwsi / "val" / "gts" / "a.png", levels)
    write_levels(hrwsi / "val" / "valid_masks" / "a.png", np.ones((HEIGHT, WIDTH), bool))
    source = open_kind("hrwsi", hrwsi)
    codes = source.load(source.items()[2]).codes
    assert (codes.min(), codes.max()) == (1, 65535)
    np.testing.assert_array_equal(np.sort(codes.ravel()), codes.ravel())


@pytest.mark.parametrize("kind", ["range", "ratio"])
def test_labels_follow_the_stored_disparity(hrwsi, tmp_path, kind):
    report, found = pack_kind("hrwsi", hrwsi, tmp_path / "out", {"pairs": {"num_pairs": 400}}, tolerance_kind=kind)
    assert report.accepted == {"train": 2, "val": 1}
    sample = found["train"]["train/imgs/b.jpg"]
    assert sample.meta["tolerance"] == {"kind": kind, "value": 0.02}
    levels, known = disparity(1).astype(float), mask() > 0
    low, high = np.percentile(levels[known], (2, 98))
    relations = []
    for y_a, x_a, y_b, x_b, relation in sample.pairs.tolist():
        assert known[y_a, x_a] and known[y_b, x_b]
        a, b = levels[y_a, x_a], levels[y_b, x_b]
        equal = abs(a - b) <= 0.02 * (high - low) if kind == "range" else max(a, b) <= 1.02 * min(a, b)
        assert relation == (0 if equal else 1 if a < b else -1)
        relations.append(relation)
    assert set(relations) == {-1, 0, 1}


def test_a_mask_of_another_size_and_another_folder_are_refused(hrwsi, tmp_path):
    write_levels(hrwsi / "val" / "valid_masks" / "a.png", mask()[1:])
    source = open_kind("hrwsi", hrwsi)
    with pytest.raises(DecodeError, match=r"val/valid_masks/a\.png: the mask is of another size"):
        source.load(source.items()[2])
    with pytest.raises(SourceError, match="point it at the folder of HR-WSI"):
        open_kind("hrwsi", hrwsi / "train" / "imgs").items()
