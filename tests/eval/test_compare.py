import csv
import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from pipeline.eval.baselines import BASELINES
from pipeline.eval.bootstrap import Interval
from pipeline.eval.compare import Comparison, Difference, TruthData, compare
from pipeline.eval.evaluation_folder import images_csv, save_evaluation
from pipeline.eval.metrics import draw_dense_pairs, judge_pairs
from pipeline.eval.protocols.base import Metric
from pipeline.eval.protocols.opening import open_data
from pipeline.eval.protocols.stored import STORED_PAIRS_METRIC
from pipeline.eval.truth import TruthFolder, TruthPicture
from pipeline.eval.whdr import evaluate_samples
from pipeline.eval.worst import clear_worst, save_worst, worst_cases
from shards.errors import ConfigError, DataError, DecodeError, SourceError
from shards.format import Sample
from shards.writer import DatasetWriter

RNG = np.random.default_rng(0)
WHDR = "whdr@0.02x400s0"


def picture(name, values=None):
    truth = np.asarray(RNG.uniform(1, 9, (20, 30)) if values is None else values, np.float32)
    # The truth is painted into the picture, so that a predictor of the test can know it.
    image = np.repeat(np.rint(np.nan_to_num(truth) * 20).astype(np.uint8)[..., None], 3, axis=2)
    return TruthPicture(name, image, truth)


def painted(image):
    return image[..., 0].astype(np.float32)


def noisy(amount):
    """A predictor that knows the truth up to noise, the same for the same picture."""

    def predict(image):
        noise = np.random.default_rng(int(image.sum()) + int(amount)).normal(size=image.shape[:2])
        return (image[..., 0] + amount * noise).astype(np.float32)

    return predict


def truth_data(label, names, **options):
    return TruthData(label, [picture(name) for name in names], **{"num_pairs": 400, **options})


def sample(key, relations):
    buffer = io.BytesIO()
    Image.fromarray(np.full((16, 24, 3), 99, np.uint8)).save(buffer, "JPEG")
    points = RNG.integers(0, 16, (len(relations), 4))
    return Sample(key, buffer.getvalue(), {}, pairs=np.column_stack([points, relations]).astype(np.int16))


def test_dense_whdr_is_the_mean_over_pictures_then_over_sets():
    data = truth_data("gt=x", ["a/1", "a/2", "b/1"])
    predict = noisy(60)
    whdr = compare({"x": predict}, [data]).whdr_percent["x"]
    by_hand = {}
    for one in data.pictures:
        pairs = draw_dense_pairs(one.inverse_depth, one.name, num_pairs=400, seed=0, tolerance=0.02)
        share = judge_pairs(predict(one.image), pairs).sum() / np.count_nonzero(pairs[:, 4])
        by_hand.setdefault(one.set_name, []).append(100 * share)
    sets = {name: sum(shares) / len(shares) for name, shares in by_hand.items()}
    assert 5 < sets["a"] < 50
    assert whdr == pytest.approx({**sets, "mean": (sets["a"] + sets["b"]) / 2})


def test_a_picture_without_an_unequal_pair_counts_in_no_mean_and_is_named():
    nothing_known = np.full((20, 30), np.nan)
    pictures = [picture("a/1"), picture("a/flat", np.ones((20, 30))), picture("b/empty", nothing_known)]
    comparison = compare({"x": noisy(60)}, [TruthData("gt=x", pictures, num_pairs=400)])
    (part,) = comparison.parts
    assert part.scores.unjudged == ("a/flat", "b/empty")
    percent = comparison.whdr_percent["x"]
    assert percent["a"] == percent["mean"] == 100 * part.scores.values()[0, 0, 0]
    assert math.isnan(percent["b"])
    assert comparison.record()["whdr_percent"]["x"]["b"] is None
    assert "a/flat; b/empty" in comparison.table()


def test_all_methods_are_judged_on_the_same_pairs_and_sets_keep_their_order():
    data = [truth_data("one", ["z/1", "a/1"]), truth_data("two", ["m/1"])]
    lines = []
    comparison = compare({"x": painted, "y": painted}, data, report=lines.append)
    percent = comparison.whdr_percent
    assert percent["x"] == percent["y"]
    assert list(percent["x"]) == ["z", "a", "mean", "m"]
    assert lines == ["one, 2 methods ...", "two, 2 methods ..."]


def test_two_sources_of_one_set_are_refused():
    with pytest.raises(DataError, match="one and two both hold a set a"):
        compare({"x": painted}, [truth_data("one", ["a/1"]), truth_data("two", ["a/2"])])


def test_intervals_stand_beside_the_figures_but_not_where_there_is_one_picture():
    names = [f"many/{n}" for n in range(12)]
    (part,) = compare({"x": noisy(60)}, [truth_data("gt=x", [*names, "one/1"])]).parts
    figures = {figure.set_name: figure for figure in part.figures if figure.metric.name == WHDR}
    assert figures["one"].interval is None
    low, high = figures["many"].interval
    assert low < figures["many"].value < high
    shares = part.scores.values()[:12, 0, 0]
    error = shares.std() / math.sqrt(12)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.25)
    # Of the mean of two sets only one moves, so its interval is half as wide.
    assert figures["mean"].interval.high - figures["mean"].interval.low == pytest.approx((high - low) / 2, rel=0.15)
    table = Comparison((part,)).table()
    assert "no interval, as fewer than two pictures count: one" in table
    assert "too narrow" in table


def test_differences_are_paired():
    """Both methods err on the same pictures, so their difference is known far better than either figure."""
    pictures = [picture(f"a/{n}", RNG.uniform(1, 1 + 0.5 * n, (20, 30))) for n in range(1, 15)]
    data = TruthData("gt=x", pictures, num_pairs=400)
    methods = {"good": noisy(10), "bad": noisy(20), "again": noisy(10), **BASELINES}
    (part,) = compare(methods, [data]).parts
    found = {(d.method, d.other): d for d in part.differences if d.set_name == "a"}
    assert set(found) == {("good", "bad"), ("good", "again"), ("bad", "again")} | {
        (network, "lower is nearer") for network in ("good", "bad", "again")
    }
    good_bad = found["good", "bad"]
    values = part.scores.values()[:, :, 0]
    assert good_bad.value == pytest.approx((values[:, 0] - values[:, 1]).mean())
    assert good_bad.verdict == "better" and good_bad.better > 0.99
    width = good_bad.interval.high - good_bad.interval.low
    alone = next(f for f in part.figures if f.method == "good" and f.metric.name == WHDR).interval
    assert width < (alone.high - alone.low) / 2
    same = found["good", "again"]
    assert (same.value, same.interval, same.better) == (0, Interval(0, 0), 0.5)
    assert same.verdict == "no difference shown"


@pytest.mark.parametrize(
    ("lower_is_better", "value", "limits", "verdict"),
    [
        (True, -0.1, (-0.2, -0.01), "better"),
        (True, 0.1, (0.01, 0.2), "worse"),
        (False, 0.1, (0.01, 0.2), "better"),
        (True, -0.1, (-0.2, 0.0), "no difference shown"),
        (True, -0.1, None, "no difference shown"),
    ],
)
def test_a_verdict_needs_an_interval_without_zero(lower_is_better, value, limits, verdict):
    metric = Metric("m", "m", lower_is_better=lower_is_better)
    assert Difference("x", "y", "a", metric, value, limits and Interval(*limits), 0.9).verdict == verdict


def test_published_figures_stand_beside_ours_only_for_the_same_pictures():
    names = [f"nyu/{n}" for n in range(4)]
    same = compare({"x": noisy(60)}, [truth_data("gt=x", names)])
    assert "FastDepth, in-domain [1]" in same.table()
    assert same.record()["benchmarks"][0]["published"][0]["values"] == [17.8]
    assert "FastDepth" not in compare({"x": noisy(60)}, [truth_data("gt=x", names[:3])]).table()
    assert "FastDepth" not in compare({"x": noisy(60)}, [truth_data("gt=x", names, tolerance=0.05)]).table()


class Breaking(list):
    """Pictures of which some cannot be read."""

    def __getitem__(self, index):
        found = super().__getitem__(index)
        if found.name.endswith("broken"):
            raise DecodeError(f"{found.name}: cannot be read")
        return found

    @property
    def names(self):
        return [one.name for one in self]


def test_a_picture_that_cannot_be_read_is_named_and_counted_and_the_rest_evaluated():
    pictures = Breaking([picture("a/1"), picture("a/broken"), picture("a/2")])
    comparison = compare({"x": noisy(60)}, [TruthData("gt=x", pictures, num_pairs=400)])
    record = comparison.record()["benchmarks"][0]
    assert record["pictures"] == {"a": 2, "mean": 2}
    assert record["failed"] == [{"name": "a/broken", "reason": "a/broken: cannot be read"}]
    assert "NOT EVALUATED, 1 picture could not be read: a/broken: cannot be read" in comparison.table()
    rows = list(csv.DictReader(io.StringIO(images_csv(comparison))))
    assert [row["picture"] for row in rows if row["error"]] == ["a/broken"]
    with pytest.raises(DataError, match="none of its 1 pictures"):
        compare({"x": noisy(60)}, [TruthData("gt=x", Breaking([picture("a/broken")]))])


def test_a_place_that_stops_answering_ends_the_evaluation():
    class Gone(list):
        def __getitem__(self, index):
            if index:
                raise SourceError("source.path: stopped answering")
            return super().__getitem__(index)

    with pytest.raises(SourceError, match="stopped answering"):
        compare({"x": noisy(60)}, [TruthData("gt=x", Gone([picture("a/1"), picture("a/2")]))])


def test_the_csv_holds_what_the_figures_are_made_of(tmp_path):
    comparison = compare({"x": noisy(60), **BASELINES}, [truth_data("gt=x", ["a/1", "a/2", "b/1"])])
    save_evaluation(tmp_path / "out", comparison, comparison.record())
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == comparison.record()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "images.csv").read_text())))
    assert len(rows) == 3 * 3 * 5
    for figure in comparison.parts[0].figures:
        if figure.set_name != "mean":
            mine = [
                float(row["value"])
                for row in rows
                if (row["set"], row["method"], row["metric"]) == (figure.set_name, figure.method, figure.metric.name)
            ]
            assert np.mean(mine) == pytest.approx(figure.value, rel=1e-4)


def test_the_worst_cases_come_worst_first_and_are_drawn(tmp_path):
    data = truth_data("gt=x", [f"a/{n}" for n in range(6)])
    methods = {"our net": noisy(60), **BASELINES}
    (part,) = compare(methods, [data]).parts
    worst = worst_cases(part.scores, "our net", 4)
    values = part.scores.values()[:, 0, 0]
    assert [values[number] for number in worst] == sorted(values, reverse=True)[:4]
    folder = tmp_path / "worst"
    stale = folder / "01_gt" / "other" / "01_old.png"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"")
    (folder / "mine.txt").write_text("kept")
    clear_worst(folder)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    files = save_worst(part.scores, data, {"our net": methods["our net"]}, folder / "01_gt", 4)
    assert [file.name for file in files] == [f"{rank:02d}_a_{number}.png" for rank, number in enumerate(worst, 1)]
    with Image.open(files[0]) as sheet:
        assert sheet.width > 1000
        colours = np.asarray(sheet).reshape(-1, 3)
    assert (np.abs(colours.astype(int) - (235, 40, 40)).sum(axis=1) < 20).any()  # a wrong pair


def test_equally_wrong_pictures_are_ordered_by_how_far_they_are_wrong():
    slope = np.linspace(1, 9, 30)[None].repeat(20, axis=0)
    steep, even = slope.copy(), slope.copy()
    pictures = [picture("a/even", even), picture("a/steep", steep)]

    def predict(image):
        upside_down = -painted(image)
        upside_down[0, 0] = 3000 if predict.calls == 0 else upside_down[0, 0]  # one outlier widens the spread
        predict.calls += 1
        return upside_down

    predict.calls = 0
    (part,) = compare({"x": predict}, [TruthData("gt=x", pictures, num_pairs=300)]).parts
    assert (part.scores.values()[:, 0, 0] == 1).all()
    assert worst_cases(part.scores, "x", 2) == [1, 0]


def test_stored_pairs_are_pooled_and_stand_in_no_mean(tmp_path):
    samples = [sample(f"s{index}", RNG.integers(-1, 2, 50)) for index in range(5)]
    with DatasetWriter(str(tmp_path / "web"), shard_bytes=1 << 20, config={}) as writer:
        writer.add("train", sample("unseen", [1, 1]))
        for one in samples:
            writer.add("val", one)
        writer.finish({})
    data = open_data(f"shards={tmp_path / 'web'}")
    predict = BASELINES["lower is nearer"]
    comparison = compare({"lower": predict}, [data])
    (figure,) = comparison.parts[0].figures
    assert (figure.set_name, figure.metric.name, figure.num_pictures) == ("web", STORED_PAIRS_METRIC, 5)
    assert figure.value == evaluate_samples(predict, samples).share
    assert list(comparison.whdr_percent["lower"]) == ["web"]  # no truth, no mean
    assert str(tmp_path) not in json.dumps(comparison.record())


@pytest.mark.parametrize(
    "spec", ["nyu2=/data", "gt", "gt=", "diw=", "synthetic=", "synthetic=0", "synthetic=many", "=3", "synthetic=²"]
)
def test_data_of_an_unknown_kind_is_refused(spec):
    with pytest.raises(ConfigError, match=r"gt=FOLDER|number of scenes"):
        open_data(spec)


def test_synthetic_test_scenes_carry_exact_truth():
    data = open_data("synthetic=2")
    assert [data.name(index) for index in range(len(data))] == ["synthetic/00000", "synthetic/00001"]
    for index in range(2):
        case = data.case(index)
        assert case.image.shape == (*case.truth.inverse_depth.shape, 3)
        assert np.isfinite(case.truth.inverse_depth).any()
        assert np.nanmin(case.truth.inverse_depth) >= 0


@pytest.mark.data
def test_the_published_figures_of_lower_is_nearer_are_reproduced(real_data):
    data = TruthData("gt=gt", TruthFolder(real_data / "gt"), num_pairs=100_000)
    percent = compare({"lower": BASELINES["lower is nearer"]}, [data], resamples=10).whdr_percent["lower"]
    expected = {"middlebury2006": 21.6, "middlebury2001": 17.2, "kitti2015": 19.7, "nyu": 45.1, "mean": 25.9}
    assert percent == pytest.approx(expected, abs=0.4)
