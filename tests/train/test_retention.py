import random

import pytest

from pipeline.train.config import CheckpointConfig
from pipeline.train.retention import steps_to_delete


def test_the_rule_holds_for_random_histories():
    draw = random.Random(1)
    for _ in range(500):
        on_disk = set(draw.sample(range(1, 60), draw.randrange(1, 12)))
        valid = {step: draw.choice([None, 0.1, 0.2, 0.3]) for step in on_disk if draw.random() < 0.8}
        published = draw.choice(sorted(on_disk))
        config = CheckpointConfig(keep_last=draw.randrange(2, 5), keep_every_steps=draw.choice([None, 10]))
        gone = steps_to_delete(on_disk, valid, published, config)
        left = on_disk - set(gone)
        past = sorted(step for step in valid if step <= published)
        assert set(past[-config.keep_last :]) <= left
        assert len(left & set(past)) >= min(2, len(past))
        assert {step for step in on_disk if step > published} <= left
        figures = [figure for step in past if (figure := valid[step]) is not None]
        if figures:
            assert any(valid.get(step) == min(figures) for step in left if step <= published)
        if config.keep_every_steps:
            assert {step for step in past if step % 10 == 0} <= left
        if len(past) < 2:
            assert gone == []
        else:
            for step in left & set(range(published + 1)):
                multiple = config.keep_every_steps is not None and step % config.keep_every_steps == 0
                best = valid.get(step) is not None and valid[step] == min(figures)
                assert step in past[-config.keep_last :] or (step in valid and (multiple or best)), "kept for a reason"


@pytest.mark.parametrize(("a", "b"), [(10, 20), (20, 10)])
def test_the_newest_of_equally_good_ones_is_the_best(a, b):
    valid = {a: 0.2, b: 0.2, 30: 0.3, 40: 0.3}
    assert steps_to_delete(valid, valid, 40, CheckpointConfig(keep_last=2)) == [10]
