import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.data.augment import PADDING_RGB, View
from pipeline.data.config import AugmentConfig, DataConfig
from pipeline.data.loader import TrainStream
from pipeline.data.store import ShardStore
from pipeline.data.training_sample import needs_maps, training_picture
from shards.format import Sample
from shards.pairs import Tolerance, relations

from .small_dataset import make_sample, write_dataset

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

SIZE = (96, 96)
EVERYTHING = AugmentConfig(
    crop_scale_min=0.3,
    fit="letterbox",
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    hue_deg=10,
    colour_probability=0.7,
    blur_probability=0.5,
    jpeg_probability=0.5,
)


def sample_of(picture: np.ndarray, disparity: np.ndarray, pairs: np.ndarray | None = None, **changes: Any) -> Sample:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=98, subsampling=0)
    stored = make_sample(0, *picture.shape[:2], image=file.getvalue(), disparity=disparity.astype(np.uint16), **changes)
    return stored if pairs is None else Sample(**{**vars(stored), "pairs": pairs.astype(np.int16)})


def to_view(points_yx: np.ndarray, view: View, size_hw: tuple[int, int]) -> np.ndarray:
    """Where source points truly lie in a view."""
    mapped = (points_yx - np.array(view[:2]) + 0.5) * np.array(size_hw) / np.array(view[2:4]) - 0.5
    if view.flip:
        mapped[..., 1] = size_hw[1] - 1 - mapped[..., 1]
    return mapped


def view_of(shown: Any) -> View:
    *box, flip = shown.view.tolist()
    return View(*box, bool(flip))


@pytest.mark.parametrize("fit", ["crop", "letterbox"])
@pytest.mark.parametrize("hw", [(150, 200), (90, 330), (330, 90)])
@pytest.mark.parametrize("size_hw", [(96, 96), (64, 112), (256, 224)])
def test_image_target_and_stored_pair_agree_within_half_a_pixel(
    fit: Any, hw: tuple[int, int], size_hw: tuple[int, int]
) -> None:
    centre = np.array([hw[0] // 2, hw[1] // 2])
    grid = np.stack(np.mgrid[: hw[0], : hw[1]], axis=-1)
    bump = np.exp(-((grid - centre) ** 2).sum(-1) / (2 * 6.0**2))
    picture = np.repeat(np.rint(255 * bump).astype(np.uint8)[..., None], 3, axis=2)
    far = centre + np.array([0, 9])
    pairs = np.array([[*centre, *far, -1]])
    sample = sample_of(picture, 1 + np.rint(60000 * bump), pairs)
    augment = AugmentConfig(fit=fit, crop_scale_min=0.8)
    config = DataConfig(train="x", pairs="stored", num_pairs=1, augment=augment)
    compared = 0
    for number in range(6):
        shown = training_picture(sample, config, size_hw, (number,))
        view = view_of(shown)
        scale = np.array(size_hw) / np.array(view[2:4])
        true = to_view(np.stack([centre, far]).astype(float), view, size_hw)
        if not ((true > 20 * scale + 1) & (true < np.array(size_hw) - 2 - 20 * scale)).all():
            continue  # the bump is cut
        compared += 1
        seen = np.zeros((2, 2))
        for row, weights in enumerate((shown.image[1].double() / 255, shown.inverse_depth.double())):
            places = np.stack(np.mgrid[: size_hw[0], : size_hw[1]], axis=-1)
            near = (np.abs(places - true[0]) <= 20 * scale).all(axis=-1)
            seen[row] = (places[near] * weights.numpy()[near, None]).sum(0) / weights.numpy()[near].sum()
        np.testing.assert_allclose(seen[0], true[0], atol=0.3)
        assert (np.abs(seen[1] - true[0]) <= np.minimum(0.5, 0.5 * scale) + 0.05).all()
        assert shown.valid.all()
        assert np.abs(shown.pairs_yx.reshape(2, 2).numpy() - true).max() <= 0.5 + 1e-9
        assert shown.relation.tolist() == [-1]
    assert compared


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_padding_has_its_colour_no_depth_and_no_pair(data: st.DataObject) -> None:
    hw = data.draw(st.integers(2, 90)), data.draw(st.integers(2, 90))
    size_hw = data.draw(st.integers(8, 60)), data.draw(st.integers(8, 60))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    points = rng.integers(0, hw, (200, 2, 2)).reshape(200, 4)
    sample = sample_of(
        np.zeros((*hw, 3), np.uint8), rng.integers(1, 65536, hw), np.column_stack([points, np.zeros(200, int)])
    )
    augment = AugmentConfig(fit="letterbox", crop_scale_min=data.draw(st.sampled_from([0.2, 1.0])), crop_aspect_max=1.2)
    sampler = data.draw(st.sampled_from(["random", "edge_guided", "stratified"]))
    for kind in ("online", "stored"):
        config = DataConfig(train="x", pairs=kind, sampler=sampler, num_pairs=50, augment=augment)
        shown = training_picture(sample, config, size_hw, (kind,))
        view = view_of(shown)
        assert 0.99 / 1.2 - 0.7 / min(view[2:4]) <= view.width / view.height * size_hw[0] / size_hw[1]
        assert view.width / view.height * size_hw[0] / size_hw[1] <= 1.2 * (1 + 1 / min(view[2:4])) + 0.01
        # The centre of a target pixel, in source pixels, decides what it shows.
        inside = np.ones(size_hw, dtype=bool)
        for axis in (0, 1):
            for index in range(size_hw[axis]):
                at = size_hw[1] - 1 - index if axis == 1 and view.flip else index
                source = view[axis] + (2 * at + 1) * view[2 + axis] // (2 * size_hw[axis])
                if not 0 <= source < hw[axis]:
                    inside[(index,) if axis == 0 else (slice(None), index)] = False
        known = shown.confidence.numpy()
        assert set(np.unique(known[~inside])) <= {0}
        assert set(np.unique(known[inside])) <= {255}
        assert not shown.inverse_depth.numpy()[~inside].any()
        y_a, x_a, y_b, x_b = shown.pairs_yx[shown.valid].long().numpy().T
        assert inside[y_a, x_a].all()
        assert inside[y_b, x_b].all()
        # An antialiased pixel mixes source pixels up to one target or one source pixel away from its centre.
        corners = np.sort(to_view(np.array([[-0.5, -0.5], [hw[0] - 0.5, hw[1] - 0.5]]), view, size_hw), axis=0)
        reach = np.maximum(1, np.array(size_hw) / view[2:4]) + 0.01
        grid = np.stack(np.mgrid[: size_hw[0], : size_hw[1]], axis=-1)
        deep = ((grid < corners[0] - reach) | (grid > corners[1] + reach)).any(axis=-1)
        if deep.any():
            colours = shown.image.permute(1, 2, 0).numpy()[deep].astype(int)
            assert np.abs(colours - PADDING_RGB).max() <= 1


def test_a_letterbox_shows_the_whole_panorama_where_nothing_is_cropped() -> None:
    disparity = np.tile(np.arange(1, 401), (80, 1))
    sample = sample_of(np.full((80, 400, 3), 200, np.uint8), disparity)
    augment = AugmentConfig(fit="letterbox", crop_scale_min=1, crop_aspect_max=1, flip_probability=0)
    shown = training_picture(sample, DataConfig(train="x", augment=augment), (200, 200), (0,))
    assert view_of(shown) == View(-160, 0, 400, 400)
    codes = np.rint(shown.inverse_depth.numpy().astype(float) * 65535)
    assert codes[100].tolist() == list(range(2, 401, 2))
    assert (shown.confidence[80:120] == 255).all()
    assert not shown.confidence[:80].any()
    assert not shown.confidence[120:].any()


def test_a_letterboxed_crop_shows_the_drawn_share_of_a_panorama() -> None:
    sample = sample_of(np.zeros((60, 480, 3), np.uint8), np.ones((60, 480)))
    augment = AugmentConfig(fit="letterbox", crop_scale_min=0.5)
    shares, lefts = [], set()
    for number in range(60):
        view = view_of(training_picture(sample, DataConfig(train="x", num_pairs=1, augment=augment), SIZE, (number,)))
        assert view.top < 0
        assert view.top + view.height > 60
        shares.append(view.width / 480)
        lefts.add(view.left)
    assert 0.49 < min(shares) < 0.56
    assert 0.94 < max(shares) <= 1
    assert len(lefts) > 20


def test_edge_guided_pairs_cross_the_edge_that_the_view_shows() -> None:
    picture, disparity = np.full((160, 200, 3), 40, np.uint8), np.full((160, 200), 1000)
    picture[:, 100:], disparity[:, 100:] = 200, 60000
    sample = sample_of(picture, disparity)
    ordered = {}
    for sampler in ("random", "edge_guided"):
        config = DataConfig(train="x", sampler=sampler, edge_share=1, num_pairs=900, augment=AugmentConfig())
        for number in range(6):
            shown = training_picture(sample, config, SIZE, (number,))
            view = view_of(shown)
            border = to_view(np.array([80.0, 99.5]), view, SIZE)[1]
            if not 35 < border < 60:
                continue
            x_a, x_b = shown.pairs_yx[:, 1].numpy(), shown.pairs_yx[:, 3].numpy()
            right_a, right_b = (x_a > border) != view.flip, (x_b > border) != view.flip
            np.testing.assert_array_equal(shown.relation.numpy(), right_b.astype(int) - right_a.astype(int))
            if sampler == "edge_guided":
                assert np.abs(np.stack([x_a, x_b]) - border).max() <= 33  # as far from an edge as published
                # a-b, b-c, c-d: one of three crosses; at each anchor the points lie on both sides.
                assert np.mean(right_a != right_b) == pytest.approx(1 / 3, abs=0.05)
            ordered.setdefault(sampler, []).append(np.abs(np.stack([x_a, x_b]) - border).mean())
    assert np.mean(ordered["edge_guided"]) < 0.7 * np.mean(ordered["random"])


@pytest.mark.parametrize("sampler", ["random", "edge_guided", "stratified"])
def test_online_pairs_have_the_labels_of_the_whole_picture(sampler: Any) -> None:
    sample = make_sample(3, 90, 120)
    assert sample.disparity is not None
    low, high = np.percentile(sample.disparity[::1, ::1][sample.disparity > 0], (2, 98))
    config = DataConfig(train="x", sampler=sampler, num_pairs=300, augment=AugmentConfig(crop_scale_min=0.2))
    for number in range(3):
        shown = training_picture(sample, config, SIZE, (number,))
        codes = np.rint(shown.inverse_depth.numpy().astype(float) * 65535)
        y_a, x_a, y_b, x_b = shown.pairs_yx.long().numpy().T
        wanted = relations(codes[y_a, x_a], codes[y_b, x_b], Tolerance("range", 0.02), value_range=high - low)
        assert shown.valid.all()
        np.testing.assert_array_equal(shown.relation.numpy(), wanted)


def test_stored_pairs_stay_right_on_the_shown_disparity() -> None:
    y, x = np.mgrid[:120, :160]
    disparity = 1000 + 300 * x + 20 * y  # smooth: half a pixel off changes little
    rng = np.random.default_rng(0)
    points = rng.integers(0, (120, 160), (400, 2, 2))
    difference = disparity[points[:, 1, 0], points[:, 1, 1]] - disparity[points[:, 0, 0], points[:, 0, 1]]
    far = np.abs(difference) > 1500
    pairs = np.column_stack([points.reshape(400, 4), np.sign(difference)])[far]
    sample = sample_of(np.zeros((120, 160, 3), np.uint8), disparity, pairs)
    for fit in ("crop", "letterbox"):
        config = DataConfig(train="x", pairs="stored", num_pairs=500, augment=AugmentConfig(fit=fit))
        for number in range(4):
            shown = training_picture(sample, config, (160, 128), (fit, number))
            y_a, x_a, y_b, x_b = shown.pairs_yx[shown.valid].long().numpy().T
            depth = shown.inverse_depth.numpy()
            assert len(y_a) > 50
            np.testing.assert_array_equal(shown.relation[shown.valid], np.sign(depth[y_b, x_b] - depth[y_a, x_a]))


def test_without_dense_targets_the_rest_is_the_same_and_stored_pairs_need_no_maps() -> None:
    for kind in ("online", "stored"):
        config = DataConfig(train="x", pairs=kind, num_pairs=40, augment=EVERYTHING)
        sample = make_sample(1, confidence=np.full((40, 56), 99, np.uint8))
        whole = training_picture(sample, config, SIZE, (5,))
        bare = (
            sample if needs_maps(config, False) else Sample(sample.key, sample.image, sample.meta, pairs=sample.pairs)
        )
        assert (bare.disparity is None) == (kind == "stored")
        lean = training_picture(bare, config, SIZE, (5,), dense=False)
        assert lean.inverse_depth is None
        assert lean.confidence is None
        for name in ("image", "colour", "pairs_yx", "relation", "valid", "view"):
            assert torch.equal(getattr(lean, name), getattr(whole, name)), name
        assert needs_maps(config, True)


def test_stored_confidence_is_shown_where_the_disparity_is_known() -> None:
    confidence = np.tile(np.arange(56, dtype=np.uint8) * 4, (40, 1))
    disparity = np.ones((40, 56))
    disparity[:, 20:30] = 0
    sample = Sample(**{**vars(make_sample(0)), "confidence": confidence, "disparity": disparity.astype(np.uint16)})
    still = AugmentConfig(crop_scale_min=1, crop_aspect_max=4, flip_probability=0)
    shown = training_picture(sample, DataConfig(train="x", augment=still), (40, 56), (0,))
    wanted = confidence.copy()
    wanted[:, 20:30] = 0
    assert shown.confidence.dtype == torch.uint8
    np.testing.assert_array_equal(shown.confidence.numpy(), wanted)


def test_each_kind_of_change_draws_for_itself() -> None:
    sample = make_sample(2)
    plain = DataConfig(train="x", num_pairs=30, augment=AugmentConfig(crop_scale_min=0.3))
    busy = plain.model_copy(update={"augment": EVERYTHING.model_copy(update={"fit": "crop"})})
    for number in range(4):
        one, other = (training_picture(sample, config, SIZE, (number,)) for config in (plain, busy))
        assert torch.equal(one.view, other.view)
        assert torch.equal(one.pairs_yx, other.pairs_yx)
        assert torch.equal(one.inverse_depth, other.inverse_depth)


def test_workers_prepare_the_same_pictures_with_everything_switched_on(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", 11)
    drawn = []
    for num_workers in (0, 2):
        data = DataConfig(
            train=str(tmp_path / "data"),
            num_workers=num_workers,
            num_pairs=20,
            window=4,
            sampler="edge_guided",
            augment=EVERYTHING,
        )
        stream = TrainStream(
            data, size_hw=(32, 48), seed=1, batch_size=4, micro_batch_size=None, rank=0, world_size=1, dense=False
        )
        steps = stream.steps(2)
        drawn.append([next(steps)[0] for _ in range(4)])
        stream.close()
    for one, other in zip(*drawn, strict=True):
        assert "inverse_depth" not in one
        assert "confidence" not in one
        assert one["colour"].shape == (4, 4)
        for name in ("image", "colour", "pairs_yx", "relation", "valid", "view", "sample"):
            assert torch.equal(one[name], other[name]), name
    assert any(not math.isclose(value, 1) for value in drawn[0][0]["colour"][:, 0].tolist())


def test_maps_that_are_not_asked_for_are_not_decoded(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", 3)
    store = ShardStore(str(tmp_path / "data"), "train")
    bare, whole = store.read(1, maps=False), store.read(1)
    assert bare.disparity is None
    assert whole.disparity is not None
    assert bare.image == whole.image
    np.testing.assert_array_equal(bare.pairs, whole.pairs)
    store.close()
