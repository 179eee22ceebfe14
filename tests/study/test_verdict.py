import math
import statistics

import pytest

from pipeline.study.verdict import claim_verdict, degrees_of_freedom, separation, student_975


def student_density(t: float, degrees: int) -> float:
    log_factor = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - 0.5 * math.log(degrees * math.pi)
    return math.exp(log_factor - (degrees + 1) / 2 * math.log1p(t * t / degrees))


@pytest.mark.parametrize("degrees", [1, 2, 3, 7, 12, 30])
def test_student_by_integration_of_its_density(degrees):
    point, steps = student_975(degrees), 20_000
    width = point / steps
    inside = sum(student_density((n + 0.5) * width, degrees) for n in range(steps)) * width
    assert 2 * inside == pytest.approx(0.95, abs=5e-5)


def test_student_is_never_too_small_between_the_degrees_of_its_table():
    assert student_975(2.9) == student_975(2) > student_975(3)
    assert student_975(1 - 1e-12) == student_975(1)
    assert student_975(35) == student_975(30) and student_975(59) == student_975(40)
    assert student_975(math.inf) == student_975(120) > 1.96
    with pytest.raises(ValueError, match="one degree"):
        student_975(0.5)


def test_degrees_of_freedom():
    assert degrees_of_freedom((3.0, 7)) == pytest.approx(7)
    assert degrees_of_freedom((1.0, 5), (1.0, 5)) == pytest.approx(10)
    assert degrees_of_freedom((1e-9, 40), (1.0, 2)) == pytest.approx(2)
    assert degrees_of_freedom((0.0, 5), (0.0, 5)) == math.inf


def test_the_interval_by_hand():
    """Two seeds that differ by 2 points, pictures certain: the variance of the mean is (0.01^2 + 0.01^2) / 1 / 2."""
    found = separation([-0.05, -0.03], 0.0, 40)
    half = 12.706 * math.sqrt(statistics.variance([-0.05, -0.03]) / 2)
    assert found.value == pytest.approx(-0.04)
    assert (found.low, found.high) == pytest.approx((-0.04 - half, -0.04 + half))
    assert found.verdict == "not separable"


@pytest.mark.parametrize(
    ("differences", "picture_deviation", "verdict"),
    [
        ([-0.050, -0.052, -0.048], 0.010, "yes"),
        ([0.050, 0.052, 0.048], 0.010, "no"),
        ([-0.050, -0.052, -0.048], 0.030, "not separable"),  # the pictures do not tell
        ([-0.090, -0.052, -0.008], 0.005, "not separable"),  # the seeds do not
        ([-0.050, -0.050, -0.050], 0.0, "yes"),
        ([0.0, 0.0, 0.0], 0.0, "not separable"),
        ([-0.2], 0.001, "not separable"),  # one seed
        ([], 0.001, "not separable"),
    ],
)
def test_the_rule(differences, picture_deviation, verdict):
    assert separation(differences, picture_deviation**2, 50).verdict == verdict


def test_without_two_pictures_or_a_variance_there_is_no_verdict():
    assert separation([-0.2, -0.2], 0.0, 1).verdict == "not separable"
    assert math.isnan(separation([-0.2, -0.2], math.nan, 50).low)


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        (["yes", "yes"], "yes"),
        (["yes", "not separable"], "not separable"),
        (["yes", "no"], "no"),
        (["not separable", "no"], "no"),
        ([], "not separable"),
    ],
)
def test_a_claim_of_several_comparisons(parts, whole):
    assert claim_verdict(parts) == whole
