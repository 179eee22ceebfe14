import numpy as np
import pytest

from shards.layouts import is_squeezed, named_layout, shaped_layout, split_views, stretch_view

from .stereo_scene import stereo_pair


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("deep/beach_sbs.jpg", "side_by_side"),
        ("beach.left-right.jpg", "side_by_side"),
        ("Beach Half-SBS (2).PNG", "side_by_side"),
        ("beach.JPS", "side_by_side"),
        ("beach_crossview.png", "side_by_side"),
        ("beach.top-bottom.jpg", "top_bottom"),
        ("beach_TB.jpg", "top_bottom"),
        ("beach_over_under.jpg", "top_bottom"),
        ("beach HOU.jpg", "top_bottom"),
        ("beach.jpg", None),
        ("sbs/beach.jpg", None),
        ("absbsc.jpg", None),
        ("kantou.jpg", None),
        ("topleft.jpg", None),
    ],
)
def test_names_tell_the_layout_by_whole_words(name, layout):
    assert named_layout(name) == layout


def test_shapes_suggest_a_layout_only_where_they_are_unusual():
    shapes = {(768, 2048): "side_by_side", (720, 1280): None, (960, 1280): None, (1280, 960): "top_bottom"}
    assert {shape: shaped_layout(shape) for shape in shapes} == shapes


@pytest.mark.parametrize(
    ("name", "height", "width", "layout", "squeezed"),
    [
        ("a.jpg", 1080, 1920, "side_by_side", True),
        ("a.jpg", 1080, 3840, "side_by_side", False),
        ("a.jps", 720, 1044, "side_by_side", False),
        ("a_half-sbs.jpg", 720, 1044, "side_by_side", True),
        ("a.jpg", 1080, 1920, "top_bottom", True),
        ("a.jpg", 2160, 1920, "top_bottom", False),
        ("a_hou.jpg", 2160, 1920, "top_bottom", True),
        ("a_hou.jpg", 2160, 1920, "side_by_side", False),
    ],
)
def test_squeezed_views_are_told_by_name_or_by_a_shape_that_no_camera_has(name, height, width, layout, squeezed):
    assert is_squeezed(name, (height, width, 3), layout) is squeezed


@pytest.mark.parametrize("odd", [0, 1])
def test_halves_are_the_views_that_were_put_together(odd):
    left, right, _ = stereo_pair(60, 80)
    gap = np.zeros((60, odd, 3), dtype=np.uint8)
    first, second = split_views(np.concatenate([left, gap, right], axis=1), "side_by_side")
    assert (first == left).all() and (second == right).all()
    first, second = split_views(
        np.concatenate([left, gap.reshape(odd, 60, 3)[:, :1].repeat(80, 1), right]), "top_bottom"
    )
    assert (first == left).all() and (second == right).all()


@pytest.mark.parametrize("layout", ["side_by_side", "top_bottom"])
def test_stretching_undoes_a_squeeze(layout):
    y, x = np.mgrid[:64, :80].astype(np.float32)
    view = np.stack([x * 2, y * 3, x + y], axis=2)
    squeezed = view.reshape(64, 40, 2, 3).mean(2) if layout == "side_by_side" else view.reshape(32, 2, 80, 3).mean(1)
    back = stretch_view(np.round(squeezed).astype(np.uint8), layout)
    assert back.shape == view.shape
    assert np.abs(back[4:-4, 4:-4] - view[4:-4, 4:-4]).max() <= 2
