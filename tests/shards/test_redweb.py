from fractions import Fraction

import numpy as np
import pytest

from pipeline.data.config import AugmentConfig, DataConfig
from pipeline.data.training_sample import training_picture
from shards.disparity import decode_values
from shards.errors import DecodeError, SourceError
from shards.format import decode_jpeg
from shards.pairs import Tolerance, relations
from shards.sources import Item, ReportsLeftovers

from .labelled_collection import open_kind, pack_kind, write_levels, write_picture

HEIGHT, WIDTH = 48, 64
BOUND = Fraction(102, 100)


def eq_1(g_i, g_j):
    """The paper's Eq. 1 on the raw values, larger = farther, in whole numbers: +1 where i is farther."""
    if g_i > BOUND * g_j:
        return 1
    return -1 if g_j > BOUND * g_i else 0


def depth_map(seed):
    """Values like those of the set: a slope with near ties, some zeros, a sky of 255."""
    rng = np.random.default_rng(seed)
    levels = np.linspace(250, 90, HEIGHT)[:, None] + rng.integers(-6, 7, (HEIGHT, WIDTH))
    levels[:10] = 255
    levels[-8:, : WIDTH // 2] = rng.integers(0, 4, (8, WIDTH // 2))
    return levels.clip(0, 255).astype(np.uint8)


@pytest.fixture
def redweb(tmp_path):
    root = tmp_path / "ReDWeb_V1"
    for seed, name in enumerate(("100_a", "200_b", "300_c")):
        write_picture(root / "Imgs" / f"{name}.jpg", HEIGHT, WIDTH, seed)
        write_levels(root / "RDs" / f"{name}.png", depth_map(seed))
    return root


def test_pictures_meet_their_maps_and_the_rest_is_named(redweb):
    write_picture(redweb / "Imgs" / "lonely.jpg", 8, 8)
    write_levels(redweb / "RDs" / "orphan.png", np.ones((8, 8), np.uint8))
    (redweb / "Readme.txt").write_text("research only")
    source = open_kind("redweb", redweb)
    assert isinstance(source, ReportsLeftovers)
    assert source.items() == [
        Item(f"Imgs/{name}.jpg", labels=(f"RDs/{name}.png",)) for name in ("100_a", "200_b", "300_c")
    ]
    assert source.leftovers() == {
        "matches_no_pattern": ["Readme.txt"],
        "no_labels": ["Imgs/lonely.jpg"],
        "no_picture": ["RDs/orphan.png"],
    }
    above = open_kind("redweb", redweb.parent, split="val").items()
    assert above[0].name == "ReDWeb_V1/Imgs/100_a.jpg"
    assert {item.split for item in above} == {"val"}


def test_another_collection_is_told_what_is_expected(tmp_path):
    write_picture(tmp_path / "a_L.jpg", 8, 8)
    with pytest.raises(SourceError, match=r"Imgs/NAME\.jpg with RDs/NAME\.png among the 1 files"):
        open_kind("redweb", tmp_path).items()


def test_codes_keep_every_ratio_of_the_stored_values_exactly():
    g = np.arange(256)
    codes = (256 - g).astype(np.uint16)
    inverse = decode_values(codes, {"kind": "reciprocal", "scale": -1.0, "offset": 256.0})
    i, j = (grid.ravel() for grid in np.meshgrid(g, g, indexing="ij"))
    found = relations(inverse[i], inverse[j], Tolerance("ratio", 0.02))
    assert found.tolist() == [eq_1(int(a), int(b)) for a, b in zip(i, j, strict=True)]
    assert found.reshape(256, 256)[0, 0] == 0
    assert (found.reshape(256, 256)[0, 1:] == -1).all()


def test_loading_keeps_values_and_bytes(redweb):
    source = open_kind("redweb", redweb)
    picture = source.load(source.items()[1])
    levels = depth_map(1)
    assert (levels == 0).any()
    np.testing.assert_array_equal(picture.codes, 256 - levels.astype(int))
    assert picture.codes.dtype == np.uint16
    assert picture.jpeg == (redweb / "Imgs" / "200_b.jpg").read_bytes()
    assert picture.tolerance_kind == "ratio"
    unknown = open_kind("redweb", redweb, zero="unknown").load(source.items()[1])
    np.testing.assert_array_equal(unknown.codes == 0, levels == 0)


def test_a_map_of_16_bits_is_refused(redweb):
    write_levels(redweb / "RDs" / "100_a.png", np.full((HEIGHT, WIDTH), 300, np.uint16))
    source = open_kind("redweb", redweb)
    with pytest.raises(DecodeError, match=r"RDs/100_a\.png: values up to 300"):
        source.load(source.items()[0])


def test_every_stored_relation_is_that_of_eq_1(redweb, tmp_path):
    write_levels(redweb / "RDs" / "300_c.png", np.ones((HEIGHT, WIDTH + 1), np.uint8))
    report, found = pack_kind("redweb", redweb, tmp_path / "out", {"pairs": {"num_pairs": 500}})
    assert report.rejected == {"size_mismatch": 1}
    samples = found["train"]
    assert list(samples) == ["Imgs/100_a.jpg", "Imgs/200_b.jpg"]
    for seed, sample in enumerate(samples.values()):
        raw = depth_map(seed).astype(int)
        assert len(sample.pairs) == 500
        expected = [eq_1(raw[y_a, x_a], raw[y_b, x_b]) for y_a, x_a, y_b, x_b, _ in sample.pairs.tolist()]
        assert sample.pairs[:, 4].tolist() == expected
        assert set(expected) == {-1, 0, 1}
        assert sample.meta["source"] == "redweb"
        assert sample.meta["size_hw"] == [HEIGHT, WIDTH]
        assert sample.meta["crop_yxhw"] == [0, 0, HEIGHT, WIDTH]
        assert sample.meta["coding"] == {"kind": "reciprocal", "scale": -1.0, "offset": 256.0}
        assert sample.meta["tolerance"] == {"kind": "ratio", "value": 0.02}
        assert sample.meta["figures"]["equal_share"] == round(expected.count(0) / 500, 4)


@pytest.mark.parametrize("sampler", ["edge_guided", "stratified"])
def test_other_samplers_label_by_eq_1_too(redweb, tmp_path, sampler):
    settings = {"pairs": {"num_pairs": 300, "sampler": sampler}}
    _, found = pack_kind("redweb", redweb, tmp_path / "out", settings)
    sample, raw = found["train"]["Imgs/200_b.jpg"], depth_map(1).astype(int)
    assert sample.meta["sampler"]["name"] == sampler
    assert [eq_1(raw[a, b], raw[c, d]) for a, b, c, d, _ in sample.pairs.tolist()] == sample.pairs[:, 4].tolist()


def test_a_smaller_copy_is_labelled_by_what_it_stores(redweb, tmp_path):
    _, found = pack_kind("redweb", redweb, tmp_path / "out", {"long_side_px": 64, "pairs": {"num_pairs": 200}})
    write_picture(redweb / "Imgs" / "100_a.jpg", 96, 130)
    write_levels(redweb / "RDs" / "100_a.png", np.tile(np.arange(130, dtype=np.uint8), (96, 1)))
    _, smaller = pack_kind("redweb", redweb, tmp_path / "less", {"long_side_px": 64, "pairs": {"num_pairs": 200}})
    sample = smaller["train"]["Imgs/100_a.jpg"]
    assert sample.disparity.shape == decode_jpeg(sample.image).shape[:2] == (47, 64)
    assert sample.meta["crop_yxhw"] == [0, 0, 96, 130]
    for y_a, x_a, y_b, x_b, relation in sample.pairs.tolist():
        assert relation == eq_1(256 - int(sample.disparity[y_a, x_a]), 256 - int(sample.disparity[y_b, x_b]))
    assert found["train"]["Imgs/200_b.jpg"].image == (redweb / "Imgs" / "200_b.jpg").read_bytes()


def test_pairs_drawn_while_training_obey_eq_1(redweb, tmp_path):
    _, found = pack_kind("redweb", redweb, tmp_path / "out")
    sample = found["train"]["Imgs/100_a.jpg"]
    config = DataConfig(train="x", num_pairs=600, augment=AugmentConfig(crop_scale_min=0.3))
    for number in range(3):
        shown = training_picture(sample, config, (32, 48), (number,))
        raw = 256 - np.rint(shown.inverse_depth.numpy() * 65535).astype(int)
        assert shown.valid.all()
        pairs = zip(shown.pairs_yx.tolist(), shown.relation.tolist(), strict=True)
        assert all(relation == eq_1(raw[y_a, x_a], raw[y_b, x_b]) for (y_a, x_a, y_b, x_b), relation in pairs)
        assert set(shown.relation.tolist()) == {-1, 0, 1}
