import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.data.augment import View, propose_views, view_image, view_map, view_pairs, whole_view
from pipeline.data.config import AugmentConfig
from shards.randomness import CounterRng


def to_view(points_yx: np.ndarray, view: View, size_hw: tuple[int, int]) -> np.ndarray:
    """The true place of source points in a view, by the convention of the project."""
    scale = np.array(size_hw) / (view.height, view.width)
    mapped = (points_yx - (view.top, view.left) + 0.5) * scale - 0.5
    if view.flip:
        mapped[..., 1] = size_hw[1] - 1 - mapped[..., 1]
    return mapped


def centre_of_mass(weights: np.ndarray) -> np.ndarray:
    grid = np.stack(np.meshgrid(*map(np.arange, weights.shape), indexing="ij"))
    return (grid * weights).sum(axis=(1, 2)) / weights.sum()


VIEWS = [
    (View(0, 0, 120, 160), (120, 160)),
    (View(0, 0, 120, 160), (60, 80)),
    (View(11, 23, 97, 101), (64, 64)),
    (View(5, 9, 101, 127), (96, 64)),
    (View(20, 30, 80, 90), (160, 160)),
]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("view", "size_hw"), VIEWS)
def test_image_disparity_and_pairs_agree_on_where_things_are(view: View, size_hw: tuple[int, int], flip: bool) -> None:
    view = view._replace(flip=flip)
    y, x = np.mgrid[:120, :160]
    blobs = np.array([[60.0, 70.0], [45.5, 88.25], [80.0, 60.0]])
    scale = np.array(size_hw) / (view.height, view.width)
    for blob in blobs:
        bump = np.exp(-((y - blob[0]) ** 2 + (x - blob[1]) ** 2) / (2 * 4.0**2))
        picture = np.repeat((bump * 255).round().astype(np.uint8)[..., None], 3, axis=2)
        disparity = (bump * 60000).round().astype(np.uint16)
        true = to_view(blob, view, size_hw)
        seen_image = centre_of_mass(view_image(picture, view, size_hw)[..., 0].astype(float))
        seen_map = centre_of_mass(view_map(disparity, view, size_hw).astype(float))
        np.testing.assert_allclose(seen_image, true, atol=0.06)
        # The nearest source pixel is up to half a source pixel away: at exactly half size, all are.
        assert (np.abs(seen_map - true) <= np.minimum(0.5, 0.5 * scale) + 0.02).all()
        point = np.rint(blob).astype(np.int16)
        other = (view.top, view.left)
        carried = view_pairs(np.array([[*point, *other, 1]], dtype=np.int16), view, size_hw, (120, 160))
        # A stored point stands for its pixel: in the view it may be half a pixel from its centre.
        exact = to_view(point.astype(float), view, size_hw)
        assert (np.abs(carried[0, :2] - exact) <= np.maximum(0.5, 0.5 * scale) + 0.01).all()
        assert np.abs(carried[0, :2] - exact).max() <= 0.51


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_a_pair_stays_on_its_value_and_leaves_only_with_its_points(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(2, 60)), data.draw(st.integers(2, 60))
    view = View(
        top := data.draw(st.integers(0, height - 1)),
        left := data.draw(st.integers(0, width - 1)),
        data.draw(st.integers(1, height - top)),
        data.draw(st.integers(1, width - left)),
        data.draw(st.booleans()),
    )
    size_hw = (data.draw(st.integers(1, 70)), data.draw(st.integers(1, 70)))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    points = rng.integers(0, (height, width), (40, 2, 2))
    pairs = np.column_stack([points.reshape(40, 4), np.arange(40) % 3 - 1]).astype(np.int16)
    carried = view_pairs(pairs, view, size_hw, (height, width))
    expected = []
    for pair in pairs:
        ends = pair[:4].reshape(2, 2)
        if ((ends >= (top, left)) & (ends < (top + view.height, left + view.width))).all():
            exact = to_view(ends.astype(float), view, size_hw)
            got = carried[len(expected)] if len(expected) < len(carried) else None
            if got is not None and got[4] == pair[4] and np.abs(got[:4].reshape(2, 2) - exact).max() <= 0.5 + 1e-9:
                expected.append(pair)
            else:  # both ends fell onto one pixel
                assert np.abs(exact[0] - exact[1]).max() <= 1 + 1e-9
    assert len(expected) == len(carried)
    if len(carried):
        assert carried[:, :4].min() >= 0
        assert (carried[:, [0, 2]] < size_hw[0]).all()
        assert (carried[:, [1, 3]] < size_hw[1]).all()
        assert (carried[:, :2] != carried[:, 2:4]).any(axis=1).all()


def test_a_map_never_mixes_known_and_unknown() -> None:
    values = np.random.default_rng(0).integers(0, 2, (50, 70)).astype(np.uint16) * 1000
    for size_hw in ((20, 30), (64, 64), (50, 70)):
        shown = view_map(values, View(3, 5, 40, 60, True), size_hw)
        assert shown.shape == size_hw
        assert set(np.unique(shown)) == {0, 1000}
    np.testing.assert_array_equal(view_map(values, View(3, 5, 40, 60), (40, 60)), values[3:43, 5:65])
    np.testing.assert_array_equal(view_map(values, View(0, 0, 50, 70, True), (50, 70)), values[:, ::-1])


def test_an_image_is_scaled_as_pillow_does_it() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    for size_hw in ((30, 45), (64, 96), (17, 90)):
        shown = view_image(picture, View(10, 20, 40, 50), size_hw)
        resized = Image.fromarray(picture[10:50, 20:70]).resize(size_hw[::-1], Image.Resampling.BILINEAR)
        assert np.abs(shown.astype(int) - np.asarray(resized).astype(int)).max() <= 1
    mirrored = view_image(picture, View(0, 0, 60, 90, True), (60, 90))
    np.testing.assert_array_equal(mirrored, picture[:, ::-1])


@pytest.mark.parametrize("source_hw", [(480, 640), (640, 480), (200, 1600), (1600, 200), (1, 1), (3, 500)])
@pytest.mark.parametrize("size_hw", [(384, 384), (128, 160)])
def test_views_stay_inside_and_keep_their_shape(source_hw: tuple[int, int], size_hw: tuple[int, int]) -> None:
    config = AugmentConfig(crop_scale_min=0.4, crop_aspect_max=1.5)
    tops, lefts, areas, flips = set(), set(), [], []
    for number in range(60):
        views = list(propose_views(CounterRng(number), source_hw, size_hw, config))
        assert views[-1]._replace(flip=False) == whole_view(source_hw, size_hw, 1.5)
        assert len({view.flip for view in views}) == 1
        flips.append(views[0].flip)
        for view in views:
            assert min(view.height, view.width) >= 1
            assert min(view.top, view.left) >= 0
            assert view.top + view.height <= source_hw[0]
            assert view.left + view.width <= source_hw[1]
            relative = view.width / view.height / (size_hw[1] / size_hw[0])
            slack = 1 + 1 / min(view.height, view.width)  # whole pixels
            assert 1 / 1.5 / slack <= relative <= 1.5 * slack or min(source_hw) < 10
        for view in views[:-1]:
            tops.add(view.top)
            lefts.add(view.left)
            areas.append(view.height * view.width / (source_hw[0] * source_hw[1]))
    assert 10 < sum(flips) < 50
    if min(source_hw) > 400:
        assert 0.39 < min(areas) < 0.5
        assert 0.8 < max(areas) <= 1
    if max(source_hw) > 1000:
        assert len(lefts if source_hw[1] > 1000 else tops) > 50  # a crop moves along a panorama


def test_the_whole_picture_is_taken_where_cropping_is_off_and_its_shape_allows() -> None:
    off = AugmentConfig(crop_scale_min=1, crop_aspect_max=1.34, flip_probability=0)
    assert list(propose_views(CounterRng(0), (480, 640), (384, 384), off)) == [View(0, 0, 480, 640)]
    (view,) = propose_views(CounterRng(0), (200, 1000), (384, 384), off)
    assert view == View(0, 366, 200, 268)


def test_the_chance_of_a_mirror_is_the_configured_one() -> None:
    for chance in (0.0, 0.25, 1.0):
        config = AugmentConfig(flip_probability=chance)
        flips = [next(propose_views(CounterRng(n), (48, 64), (32, 32), config)).flip for n in range(400)]
        assert np.mean(flips) == pytest.approx(chance, abs=0.07)
