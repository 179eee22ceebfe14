import io
import math

import numpy as np
import pytest
from PIL import Image

from pipeline.eval.baselines import BASELINES
from pipeline.eval.compare import STORED_PAIRS_METRIC, Comparison, Figure, TruthData, compare, open_data
from pipeline.eval.metrics import PairCounts, add_counts, draw_dense_pairs
from pipeline.eval.truth import TruthFolder, TruthPicture
from pipeline.eval.whdr import evaluate_samples, evaluate_truth
from shards.errors import ConfigError, DataError, ShardError
from shards.format import Sample
from shards.writer import DatasetWriter

RNG = np.random.default_rng(0)


def picture(name, values=None):
    truth = np.asarray(RNG.uniform(1, 9, (20, 30)) if values is None else values, np.float32)
    # The truth is painted into the picture, so that a predictor of the test can know it.
    image = np.repeat(np.rint(np.nan_to_num(truth) * 20).astype(np.uint8)[..., None], 3, axis=2)
    return TruthPicture(name, image, truth)


def painted(image):
    return image[..., 0].astype(np.float32)


def sample(key, relations):
    buffer = io.BytesIO()
    Image.fromarray(np.full((16, 24, 3), 99, np.uint8)).save(buffer, "JPEG")
    points = RNG.integers(0, 16, (len(relations), 4))
    return Sample(key, buffer.getvalue(), {}, pairs=np.column_stack([points, relations]).astype(np.int16))


def test_dense_whdr_is_the_mean_over_pictures_then_over_sets():
    pictures = [picture("a/1"), picture("a/2"), picture("b/1")]
    flat = {"a/1": True, "a/2": False, "b/1": False}
    shown = iter(pictures)

    def predict(image):
        return np.zeros(image.shape[:2]) if flat[next(shown).name] else painted(image)

    result = evaluate_truth(predict, pictures, num_pairs=400)
    assert result.metric == "whdr_dense_t0.02_n400_s0"
    assert result.set_names == ("a", "b")
    assert result.whdr_percent["a"] >= 50  # ties are wrong: 100 % for a/1, about 0 for a/2
    assert result.whdr_percent["b"] < 2  # painted in steps of 0.05
    by_hand = {}
    for entry in result.pictures:
        pairs = draw_dense_pairs(
            next(p for p in pictures if p.name == entry.name).inverse_depth,
            entry.name,
            num_pairs=400,
            seed=0,
            tolerance=0.02,
        )
        assert entry.counts.total == np.count_nonzero(pairs[:, 4])
        assert entry.equal_share == pytest.approx(1 - entry.counts.total / 400)
        by_hand.setdefault(entry.set_name, []).append(entry.counts.wrong / entry.counts.total)
    sets = {name: 100 * sum(values) / len(values) for name, values in by_hand.items()}
    assert result.whdr_percent == pytest.approx(sets)
    assert result.mean_percent == pytest.approx((sets["a"] + sets["b"]) / 2)


def test_a_picture_without_an_unequal_pair_counts_in_no_mean_and_is_named():
    nothing_known = np.full((20, 30), np.nan)
    pictures = [picture("a/1"), picture("a/flat", np.ones((20, 30))), picture("b/empty", nothing_known)]
    result = evaluate_truth(painted, pictures, num_pairs=100)
    assert result.unjudged == ("a/flat", "b/empty")
    assert result.whdr_percent["a"] == 100 * result.pictures[0].counts.share
    assert math.isnan(result.whdr_percent["b"])
    assert result.mean_percent == result.whdr_percent["a"]
    assert (result.num_pictures("a"), result.num_pictures("b")) == (1, 0)


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
    with pytest.raises(ValueError, match=r"a/1: the prediction has the shape \(5, 5\)"):
        evaluate_truth(lambda image: np.zeros((5, 5)), [picture("a/1")])


def test_all_methods_are_judged_on_the_same_pairs_and_sets_keep_their_order():
    data = [TruthData("one", [picture("z/1"), picture("a/1")]), TruthData("two", [picture("m/1")])]
    lines = []
    comparison = compare({"x": painted, "y": painted}, data, num_pairs=200, report=lines.append)
    percent = comparison.whdr_percent
    assert percent["x"] == percent["y"]
    assert list(percent["x"]) == ["z", "a", "m", "mean"]
    assert percent["x"]["mean"] == pytest.approx(sum(percent["x"][name] for name in "zam") / 3)
    assert lines == ["x on one ...", "x on two ...", "y on one ...", "y on two ..."]


def test_two_sources_of_one_set_are_refused():
    with pytest.raises(DataError, match="one and two both hold a set a"):
        compare({"x": painted}, [TruthData("one", [picture("a/1")]), TruthData("two", [picture("a/2")])], num_pairs=9)


def test_stored_pairs_stand_beside_the_mean_and_not_in_it():
    figures = (
        Figure("ours", "nyu", "whdr_dense", 30.0, 4, 7.0),
        Figure("ours", "web", STORED_PAIRS_METRIC, 10.0, 9, None),
        Figure("ours", "none", "whdr_dense", math.nan, 0, math.nan),
    )
    comparison = Comparison(figures, ("none/1",))
    assert comparison.whdr_percent["ours"]["mean"] == 30.0
    record = comparison.record()
    assert record["whdr_percent"]["ours"] == {"nyu": 30.0, "web": 10.0, "none": None, "mean": 30.0}
    assert record["equal_percent"] == {"nyu": 7.0, "none": None}
    lines = comparison.table().splitlines()
    assert lines[0].split() == ["WHDR", "%", "nyu", "web", "none", "mean"]
    assert lines[2].split() == ["ours", "30.0", "10.0", "-", "30.0"]
    assert lines[3].split() == ["(pictures)", "4", "9", "0"]
    assert "none/1" in lines[-1]


def test_the_validation_pairs_of_a_set_of_shards_are_a_set_of_their_own(tmp_path):
    samples = [sample(f"s{index}", RNG.integers(-1, 2, 50)) for index in range(5)]
    with DatasetWriter(str(tmp_path / "web"), shard_bytes=1 << 20, config={}) as writer:
        writer.add("train", sample("unseen", [1, 1]))
        for one in samples:
            writer.add("val", one)
        writer.finish({})
    data = open_data(f"shards={tmp_path / 'web'}")
    predict = BASELINES["lower is nearer"]
    comparison = compare({"lower": predict}, [data])
    (figure,) = comparison.figures
    assert (figure.set_name, figure.metric, figure.num_pictures) == ("web", STORED_PAIRS_METRIC, 5)
    assert figure.whdr_percent == 100 * evaluate_samples(predict, samples).share
    assert list(comparison.whdr_percent["lower"]) == ["web"]  # no truth, no mean


@pytest.mark.parametrize(
    "spec", ["nyu=/data", "gt", "gt=", "synthetic=", "synthetic=0", "synthetic=many", "=3", "synthetic=²"]
)
def test_data_of_an_unknown_kind_is_refused(spec):
    with pytest.raises(ConfigError, match=r"gt=FOLDER|number of scenes"):
        open_data(spec)


def test_synthetic_test_scenes_carry_exact_truth():
    data = open_data("synthetic=2")
    names = [scene.name for scene in data.pictures]
    assert names == ["synthetic/00000", "synthetic/00001"]
    for scene in data.pictures:
        assert scene.image.shape == (*scene.inverse_depth.shape, 3)
        assert np.isfinite(scene.inverse_depth).any()
        assert np.nanmin(scene.inverse_depth) >= 0


@pytest.mark.data
def test_the_published_figures_of_lower_is_nearer_are_reproduced(real_data):
    result = evaluate_truth(BASELINES["lower is nearer"], TruthFolder(real_data / "gt"), num_pairs=100_000)
    expected = {"middlebury2006": 21.6, "middlebury2001": 17.2, "kitti2015": 19.7, "nyu": 45.1}
    assert result.whdr_percent == pytest.approx(expected, abs=0.5)
