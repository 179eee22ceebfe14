import math
import re

import numpy as np
import pytest

from pipeline.eval.report.curves import MAX_POINTS, draw_curves
from pipeline.eval.report.history import history_of


def line(step, session, **figures):
    figures = {name.replace("__", "/"): value for name, value in figures.items()}
    return {"step": step, "session": session, **figures}


def test_steps_that_a_killed_session_left_and_the_next_did_again_count_once():
    killed = [line(step, 1, train__loss=1.0, samples_seen=8 * step) for step in range(10, 101, 10)]
    again = [line(step, 2, train__loss=2.0, samples_seen=8 * step) for step in range(70, 151, 10)]
    history = history_of(killed + again)
    steps, values = history.series["train/loss"]
    assert steps.tolist() == list(range(10, 151, 10))
    assert values.tolist() == [1.0] * 6 + [2.0] * 9
    assert history.borders == [60]
    assert [(s.first_step, s.last_step, s.samples) for s in history.sessions] == [(10, 60, 480), (70, 150, 720)]


def test_hours_of_a_session_are_its_samples_by_their_rate():
    lines = [line(1, 1, samples_seen=3600)]  # no rate while it warmed up: the usual one is taken
    lines += [
        line(2, 1, samples_seen=7200, perf__images_per_s=2.0),
        line(3, 1, samples_seen=9000, perf__images_per_s=1.0),
    ]
    session = history_of(lines).sessions[0]
    assert session.images_per_s == 1.5
    assert session.hours == pytest.approx((3600 / 1.5 + 3600 / 2 + 1800 / 1) / 3600)


def test_a_figure_that_is_not_finite_is_a_gap_and_never_the_best():
    values = [0.3, None, 0.2, 0.25, math.nan, 10**400]
    history = history_of(line(step, 1, val__whdr=value) for step, value in enumerate(values, 1))
    assert np.isnan(history.series["val/whdr"].values).tolist() == [False, True, False, False, True, True]
    assert history.least("val/whdr") == (3, 0.2)
    assert history.latest("val/whdr") == (4, 0.25)


def test_names_and_values_that_are_none_of_this_program_are_counted_not_drawn():
    hostile = {"<script>alert(1)</script>": 1.0, "train/$x^2$": 2.0, "train/loss": True, "val/whdr": "0.1"}
    history = history_of([{"step": 1, "session": 1, **hostile}])
    assert history.series == {}
    assert history.ignored_tags == 2
    many = {f"train/x{number}": 1.0 for number in range(1000)}
    assert len(history_of([{"step": 1, "session": 1, **many}]).series) == 64


def test_each_figure_has_a_curve_and_a_counter_only_once_it_left_zero():
    figures = {"train/loss": 1.0, "train/loss_ranking": 0.7, "train/lr": 1e-3, "val/whdr": 0.2, "val/pairs": 9}
    figures |= {"health/grad_norm": 3.0, "health/empty_steps": 0, "health/overflowed_steps": 2, "perf/other": 5.0}
    curves = draw_curves(history_of([{"step": step, "session": 1, **figures} for step in (5, 10)]))
    titles = ["Loss", "Validation WHDR", "Learning rate", "Gradient norm", "health/overflowed_steps", "perf/other"]
    assert [curve.title for curve in curves] == titles
    assert "loss ranking" in curves[0].svg and "best 20.00" in curves[1].svg


def test_a_long_run_is_thinned_and_keeps_its_peak():
    entries = [line(step, 1, health__grad_norm=1.0 + step % 7 / 10) for step in range(1, 50_001)]
    small = draw_curves(history_of(entries))[0].svg
    entries[31_337]["health/grad_norm"] = 25.0
    peaked = draw_curves(history_of(entries))[0].svg
    assert len(small) < 60 * MAX_POINTS
    assert ">25</text>" in peaked.replace(" ", "") and ">25</text>" not in small.replace(" ", "")


def test_curves_take_the_colour_of_the_page_and_share_no_names():
    entries = [line(step, 1 + step // 50, train__loss=1 / step, val__whdr=0.5) for step in range(1, 100)]
    curves = draw_curves(history_of(entries))
    names = [name for curve in curves for name in set(re.findall(r'id="([^"]+)"', curve.svg))]
    assert names and len(names) == len(set(names))
    for curve in curves:
        assert curve.svg.startswith("<svg") and "<style" not in curve.svg and "currentColor" in curve.svg
        assert "width=" not in curve.svg[: curve.svg.index(">")]
