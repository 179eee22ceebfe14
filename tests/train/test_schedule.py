import math
from itertools import pairwise

import pytest

from pipeline.train.config import OptimConfig, TrainConfig
from pipeline.train.schedule import is_due, learning_rate, run_length
from shards.errors import ConfigError


def rates(total_steps, **settings):
    optim = OptimConfig(lr=0.01, **settings)
    return [learning_rate(step, total_steps, optim) for step in range(total_steps)]


@pytest.mark.parametrize("schedule", ["constant", "step", "poly", "cosine"])
@pytest.mark.parametrize("warmup_steps", [0, 1, 7])
def test_rates_rise_evenly_through_the_warmup_then_never_rise_and_stay_positive(schedule, warmup_steps):
    curve = rates(50, schedule=schedule, warmup_steps=warmup_steps)
    warmup, rest = curve[: warmup_steps + 1], curve[warmup_steps:]
    slope = 0.01 / (warmup_steps + 1)
    assert warmup == pytest.approx([slope * (step + 1) for step in range(warmup_steps + 1)])
    assert all(later <= earlier for earlier, later in pairwise(rest))
    assert max(curve) == 0.01
    assert min(curve) > 0


def test_cosine_and_poly_follow_their_formulas_towards_the_final_share():
    cosine = rates(10, schedule="cosine", final_lr_ratio=0.2)
    poly = rates(10, schedule="poly", final_lr_ratio=0.2, power=0.9)
    for step in range(10):
        assert cosine[step] == pytest.approx(0.002 + 0.008 * (1 + math.cos(math.pi * step / 10)) / 2)
        assert poly[step] == pytest.approx(0.002 + 0.008 * (1 - step / 10) ** 0.9)


def test_step_schedule_drops_exactly_at_its_milestones():
    curve = rates(100, schedule="step", milestones=(0.6, 0.85), gamma=0.1)
    assert curve[59] == 0.01
    assert curve[60] == curve[84] == pytest.approx(0.001)
    assert curve[85] == curve[99] == pytest.approx(0.0001)


@pytest.mark.parametrize(
    ("epochs", "num_samples", "batch_size", "steps"),
    [(1, 16, 8, 2), (1, 17, 8, 3), (0.1, 80, 8, 1), (1.1, 80, 8, 11), (120, 3600, 24, 18000), (0.01, 10, 8, 1)],
)
def test_epochs_become_steps_rounded_up_exactly(epochs, num_samples, batch_size, steps):
    train = TrainConfig(epochs=epochs, batch_size=batch_size)
    assert run_length(train, OptimConfig(), num_samples) == steps


def test_steps_do_not_depend_on_the_data():
    assert run_length(TrainConfig(steps=7), OptimConfig(), 1) == run_length(TrainConfig(steps=7), OptimConfig(), 10**9)


def test_a_warmup_as_long_as_the_run_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"optim\.warmup_steps: 10 .* run of 10 steps"):
        run_length(TrainConfig(steps=10), OptimConfig(warmup_steps=10), 100)


def test_due_at_multiples_and_at_the_end():
    assert [step for step in range(1, 11) if is_due(step, 3, 10)] == [3, 6, 9, 10]
    assert [step for step in range(1, 11) if is_due(step, None, 10)] == [10]
