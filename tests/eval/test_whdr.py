import io

import numpy as np
import pytest
from PIL import Image

from pipeline.eval.baselines import BASELINES
from pipeline.eval.metrics import PairCounts, add_counts
from pipeline.eval.whdr import evaluate_samples
from shards.errors import ShardError
from shards.format import Sample

RNG = np.random.default_rng(0)


def sample(key, relations):
    buffer = io.BytesIO()
    Image.fromarray(np.full((16, 24, 3), 99, np.uint8)).save(buffer, "JPEG")
    points = RNG.integers(0, 16, (len(relations), 4))
    return Sample(key, buffer.getvalue(), {}, pairs=np.column_stack([points, relations]).astype(np.int16))


def test_sums_over_the_ranks_are_the_sums_over_all():
    samples = [sample(f"s{index}", RNG.integers(-1, 2, 50)) for index in range(7)]
    predict = BASELINES["lower is nearer"]
    whole = evaluate_samples(predict, samples)
    wrong, total = whole
    assert 0 < wrong < total == sum(np.count_nonzero(s.pairs[:, 4]) for s in samples)
    for world in (2, 3):
        assert add_counts(evaluate_samples(predict, samples[rank::world]) for rank in range(world)) == whole


def test_samples_without_unequal_pairs_are_not_predicted():
    def refuse(image):
        raise AssertionError

    assert evaluate_samples(refuse, [sample("a", []), sample("b", [0, 0])]) == PairCounts(0, 0)


def test_a_stop_ends_between_samples_with_what_was_judged():
    samples = [sample(f"s{index}", [1] * 10) for index in range(5)]
    asked = iter([False, False, True])
    predict = BASELINES["lower is nearer"]
    assert evaluate_samples(predict, samples, stop=lambda: next(asked)) == evaluate_samples(predict, samples[:2])


def test_a_damaged_picture_names_its_sample():
    whole = sample("s7", [1, -1])
    damaged = Sample("s7", whole.image[:-30], {}, pairs=whole.pairs)
    with pytest.raises(ShardError, match="sample s7"):
        evaluate_samples(BASELINES["lower is nearer"], [damaged])


def test_a_prediction_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"s1: the prediction has the shape \(5, 5\)"):
        evaluate_samples(lambda image: np.zeros((5, 5)), [sample("s1", [1])])
