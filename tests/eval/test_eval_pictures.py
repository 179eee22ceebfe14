import numpy as np
import pytest

from pipeline.eval.baselines import centre_is_farther, lower_is_nearer
from pipeline.eval.colour import UNKNOWN_GREY, colourise, normalise, turbo_palette
from pipeline.eval.pictures import RIGHT, WRONG, Cell, compose, draw_pairs
from pipeline.eval.table import format_percent, format_table


def turbo_polynomial(x):
    """Fifth-order fit of the palette as its author published it (Mikhailov 2019), independent of OpenCV's table."""
    powers = x[:, None] ** np.arange(6)
    coefficients = np.array(
        [
            [0.13572138, 4.61539260, -42.66032258, 132.13108234, -152.94239396, 59.28637943],
            [0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604],
            [0.10667330, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973],
        ]
    )
    return np.clip(powers @ coefficients.T, 0, 1) * 255


def test_the_palette_is_turbo_in_rgb():
    difference = np.abs(turbo_palette().astype(float) - turbo_polynomial(np.linspace(0, 1, 256)))
    assert difference.mean() < 8  # the fit is loose; red and blue exchanged would give more than 80
    assert turbo_palette()[[0, 128, 255]].tolist() == [[48, 18, 59], [164, 252, 60], [122, 4, 3]]


def test_near_is_red_far_is_blue_unknown_is_grey():
    values = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    known = np.ones((10, 10), bool)
    known[5, 5] = False
    values[0, 1] = np.nan
    picture = colourise(values, known)
    assert picture[9, 9, 0] > 2 * picture[9, 9, 2]
    assert picture[1, 0, 2] > picture[1, 0, 0]
    assert picture[5, 5].tolist() == picture[0, 1].tolist() == [UNKNOWN_GREY] * 3
    assert (np.abs(turbo_palette().astype(int) - UNKNOWN_GREY).sum(axis=1) > 30).all()


def test_outliers_do_not_flatten_the_rest():
    values = np.linspace(0, 1, 1000).reshape(25, 40)
    values[0, 0] = 1e9
    stretched = normalise(values)
    assert stretched[0, 0] == 1
    assert stretched[12, 20] == pytest.approx(0.5, abs=0.03)


def test_constant_and_unknown_maps_have_a_colour():
    assert (normalise(np.full((3, 3), 7.0)) == 0.5).all()
    assert (colourise(np.full((3, 3), np.nan)) == UNKNOWN_GREY).all()


def test_baselines_order_points_as_their_names_say():
    image = np.zeros((5, 7, 3), np.uint8)
    lower, centre = lower_is_nearer(image), centre_is_farther(image)
    assert lower.shape == centre.shape == (5, 7)
    assert (np.diff(lower, axis=0) > 0).all()
    assert (np.diff(lower, axis=1) == 0).all()
    assert np.unravel_index(centre.argmin(), centre.shape) == (2, 3)
    assert centre[0, 0] == centre.max() == centre[4, 6]


def test_baselines_have_the_unit_of_a_standard_deviation():
    image = np.zeros((240, 320, 3), np.uint8)
    assert lower_is_nearer(image).std() == pytest.approx(1, abs=0.01)
    assert centre_is_farther(image).std() == pytest.approx(1, abs=0.02)


def test_a_sheet_holds_each_picture_at_its_place():
    red, blue = np.full((20, 40, 3), (255, 0, 0), np.uint8), np.full((40, 40, 3), (0, 0, 255), np.uint8)
    sheet = compose(["a", "b"], [[Cell(red, "x"), Cell(blue)], [Cell(blue)]], cell_width_px=100, font_px=12)
    assert sheet.shape[1] == 2 * 100 + 3 * 6
    heading = 12 + 6
    assert sheet[heading + 25, 6 + 50].tolist() == [255, 0, 0]
    assert sheet[heading + 50, 6 + 106 + 50].tolist() == [0, 0, 255]
    assert sheet[heading + 100 + 18 + 6 + 50, 6 + 50].tolist() == [0, 0, 255]
    assert (sheet[:heading] < 128).any()
    assert (sheet[heading + 50 : heading + 68, :106] < 128).all(axis=2).any()


def test_long_text_stays_in_its_column():
    cell = Cell(np.full((10, 10, 3), 255, np.uint8), "caption that is far too long " * 9)
    sheet = compose(["heading that is far too long " * 9, ""], [[cell]], cell_width_px=80)
    assert (sheet[:, 6 + 80 + 2 :] == 255).all()


def test_a_row_longer_than_the_headings_is_refused():
    with pytest.raises(ValueError, match="1 headings"):
        compose(["a"], [[Cell(np.zeros((2, 2, 3), np.uint8))] * 2])


def test_pairs_are_drawn_by_verdict_and_equal_ones_left_out():
    image = np.zeros((100, 100, 3), np.uint8)
    pairs = np.array([[10, 10, 10, 90, 1], [50, 10, 50, 90, -1], [90, 10, 90, 90, 0]], np.int16)
    drawn = draw_pairs(image, pairs, np.array([False, True, False]))
    assert np.abs(drawn[10, 50].astype(int) - RIGHT).max() < 40  # antialiased on black
    assert np.abs(drawn[50, 50].astype(int) - WRONG).max() < 40
    assert not drawn[85:].any()
    assert not image.any()
    # The nearer point has the larger dot: B of the first pair, A of the second.
    assert drawn[6:14, 86:94].any(axis=2).sum() > drawn[6:14, 6:14].any(axis=2).sum()
    assert drawn[46:54, 6:14].any(axis=2).sum() > drawn[46:54, 86:94].any(axis=2).sum()


def test_right_and_wrong_pairs_are_told_apart_without_colour():
    image = np.zeros((200, 200, 3), np.uint8)
    pairs = np.array([[50, 20, 150, 180, 1]], np.int16)
    ink = [draw_pairs(image, pairs, np.array([verdict])).any(axis=2) for verdict in (False, True)]
    assert ink[1].sum() > 1.5 * ink[0].sum()
    # The arms of the cross that lie beside the line.
    arms = [(104, 96), (96, 104)]
    assert all(ink[1][point] for point in arms)
    assert not any(ink[0][point] for point in arms)


def test_only_the_first_pairs_are_drawn():
    pairs = np.array([[10, 10, 10, 90, 0], [50, 10, 50, 90, -1], [90, 10, 90, 90, 1]], np.int16)
    drawn = draw_pairs(np.zeros((100, 100, 3), np.uint8), pairs, np.zeros(3, bool), max_pairs=1)
    assert drawn[50].any()
    assert not drawn[85:].any()


def test_tables_align():
    assert format_table(["WHDR %", "nyu"], [["ours", "9.1"], ["lower is nearer", format_percent(45.12)]]) == (
        "WHDR %            nyu\n---------------------\nours              9.1\nlower is nearer  45.1"
    )
    assert format_percent(float("nan")) == "-"
