import numpy as np
import pytest

from shards.config import PairsConfig
from shards.pair_sampler import sample_pairs
from shards.pairs import Tolerance, equal_share, relations, robust_range, sample_random_pairs
from shards.places import Places
from shards.randomness import CounterRng
from shards.stratified_pairs import DIFFERENCE_BOUNDS, DISTANCE_BOUNDS, equal_quotas, pair_bins

SAMPLERS = ("random", "edge_guided", "stratified")
RANGE = Tolerance("range", 0.02)
RATIO = Tolerance("ratio", 0.02)


def scene(seed=0, shape=(90, 120), unknown=0.3):
    """A picture of boxes at depths of their own in front of a slope, with holes in what is known."""
    draw = np.random.default_rng(seed)
    values = np.repeat(np.linspace(100, 200, shape[0])[:, None], shape[1], axis=1)
    picture = np.full((*shape, 3), 90, dtype=np.uint8)
    for _ in range(6):
        y, x = draw.integers(0, shape[0] - 20), draw.integers(0, shape[1] - 30)
        values[y : y + 20, x : x + 30] = draw.uniform(150, 900)
        picture[y : y + 20, x : x + 30] = draw.integers(0, 256, 3)
    return picture, values, draw.uniform(size=shape) >= unknown


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("tolerance", [RANGE, RATIO])
@pytest.mark.parametrize("dtype", [np.float64, np.uint16])
def test_pairs_are_exact_in_number_known_distinct_and_say_what_the_values_say(sampler, tolerance, dtype):
    picture, values, known = scene(1)
    values = values.astype(dtype)
    confidence = np.random.default_rng(0).integers(0, 256, known.shape, dtype=np.uint8)
    for given in (None, confidence):
        config = PairsConfig(num_pairs=2001, sampler=sampler)
        drawn = sample_pairs(picture, values, known, config, CounterRng("p", 1), tolerance, confidence=given)
        assert drawn.pairs.dtype == np.int16
        assert drawn.pairs.shape == (2001, 5)
        assert sum(drawn.drawn.values()) == 2001
        y_a, x_a, y_b, x_b, relation = drawn.pairs.T
        usable = known if given is None else known & (given > 0)
        assert usable[y_a, x_a].all() and usable[y_b, x_b].all()
        assert ((y_a != y_b) | (x_a != x_b)).all()
        expected = relations(values[y_a, x_a], values[y_b, x_b], tolerance, value_range=robust_range(values, known))
        np.testing.assert_array_equal(relation, expected)
        assert drawn.figures() == {
            "equal_share": round(sum(r == 0 for r in relation.tolist()) / 2001, 4),
            "pairs_drawn": drawn.drawn,
        }


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_key_alone_decides(sampler):
    picture, values, known = scene(2)
    config = PairsConfig(num_pairs=300, sampler=sampler)
    first, second, other = (
        sample_pairs(picture, values, known, config, CounterRng("p", key), RANGE).pairs for key in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_random_is_the_paper_s_sampler():
    picture, values, known = scene(3)
    drawn = sample_pairs(picture, values, known, PairsConfig(num_pairs=500), CounterRng("p"), RANGE)
    np.testing.assert_array_equal(drawn.pairs, sample_random_pairs(values, known, 500, CounterRng("p"), RANGE))
    assert drawn.drawn == {"random": 500}


@pytest.mark.parametrize(("share", "at_edges"), [(0.75, 750), (1.0, 1000), (0.0, 0)])
def test_edge_share(share, at_edges):
    picture, values, known = scene(4)
    config = PairsConfig(num_pairs=1000, sampler="edge_guided", edge_share=share)
    drawn = sample_pairs(picture, values, known, config, CounterRng("p"), RANGE)
    assert drawn.drawn.get("edge_guided") == at_edges
    assert drawn.drawn.get("random", 0) == 1000 - at_edges
    lengths = np.hypot(*(drawn.pairs[:, :2] - drawn.pairs[:, 2:4]).T.astype(float))
    assert (lengths[:at_edges] <= 62).all()


def test_a_picture_without_edges_is_filled_with_random_pairs_and_counted():
    _, values, known = scene(5)
    config = PairsConfig(num_pairs=200, sampler="edge_guided")
    drawn = sample_pairs(np.zeros((90, 120), np.uint8), values, known, config, CounterRng("p"), RANGE)
    assert drawn.drawn == {"edge_guided": 0, "random": 200}
    assert len(drawn.pairs) == 200


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_known_pixels(sampler, count):
    picture, values, known = scene(6)
    known[:] = False
    known[[3, 80][:count], [100, 5][:count]] = True
    drawn = sample_pairs(picture, values, known, PairsConfig(num_pairs=50, sampler=sampler), CounterRng(0), RANGE)
    assert drawn.pairs.shape == ((50, 5) if count == 2 else (0, 5))
    assert drawn.figures()["equal_share"] in (0.0, 1.0)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_constant_map_has_equal_pairs_only(sampler):
    picture, values, known = scene(7)
    drawn = sample_pairs(
        picture, np.full_like(values, 5.0), known, PairsConfig(num_pairs=99, sampler=sampler), CounterRng(0), RANGE
    )
    assert equal_share(drawn.pairs) == 1.0 and len(drawn.pairs) == 99


def test_equal_share_of_nothing_is_zero():
    assert equal_share(np.zeros((0, 5), np.int16)) == 0.0


def test_what_does_not_fit_together_is_refused():
    picture, values, known = scene(8)
    config = PairsConfig(num_pairs=5)
    with pytest.raises(ValueError, match="the picture is"):
        sample_pairs(picture[1:], values, known, config, CounterRng(0), RANGE)
    with pytest.raises(ValueError, match="confidence is"):
        sample_pairs(picture, values, known, config, CounterRng(0), RANGE, confidence=np.ones((90, 120)))
    with pytest.raises(ValueError, match="must be"):
        sample_pairs(picture, values[1:], known, config, CounterRng(0), RANGE)


def test_places_are_drawn_in_proportion_to_confidence():
    known = np.array([[True, True, True], [True, True, False]])
    confidence = np.array([[255, 51, 0], [102, 204, 255]], dtype=np.uint8)
    weights = {0: 255, 1: 51, 3: 102, 4: 204}
    total = sum(weights.values())
    num = 200_000
    places = Places(known, confidence)
    one = np.bincount(places.one(num, CounterRng(0)), minlength=6) / num
    a, b = places.two(num, CounterRng(1))
    joint = np.zeros((6, 6))
    np.add.at(joint, (a, b), 1 / num)
    for place in range(6):
        assert one[place] == pytest.approx(weights.get(place, 0) / total, abs=0.005)
        for other in range(6):
            weight = weights.get(place, 0) / total * weights.get(other, 0) / (total - weights.get(place, 0))
            assert joint[place, other] == pytest.approx(0 if place == other else weight, abs=0.005)
    kept = places.thin(np.full(num, 1), np.full(num, 3), rng=CounterRng(2))
    assert kept.mean() == pytest.approx(51 * 102 / 255**2, abs=0.005)


def test_equal_confidence_changes_no_distribution_and_faint_confidence_still_gives_pairs():
    picture, values, known = scene(9)
    faint = np.full(known.shape, 3, np.uint8)
    for sampler in SAMPLERS:
        config = PairsConfig(num_pairs=4000, sampler=sampler)
        plain = sample_pairs(picture, values, known, config, CounterRng(0), RANGE)
        drawn = sample_pairs(picture, values, known, config, CounterRng(1), RANGE, confidence=faint)
        assert drawn.drawn == plain.drawn
        assert equal_share(drawn.pairs) == pytest.approx(equal_share(plain.pairs), abs=0.04)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_pairs_shun_what_is_uncertain(sampler):
    picture, values, known = scene(10, unknown=0.0)
    confidence = np.full(known.shape, 255, np.uint8)
    confidence[:, 60:] = 51
    config = PairsConfig(num_pairs=8000, sampler=sampler, edge_share=1.0)
    everywhere = sample_pairs(picture, values, known, config, CounterRng(0), RANGE).pairs
    drawn = sample_pairs(picture, values, known, config, CounterRng(0), RANGE, confidence=confidence).pairs

    def shares(pairs):
        left = (pairs[:, 1] < 60).astype(int) + (pairs[:, 3] < 60)
        return np.bincount(left, minlength=3) / len(pairs)

    before, after = shares(everywhere), shares(drawn)
    if sampler == "stratified":  # bins that lie on the right alone keep their number
        assert after[2] > before[2] + 0.1
    else:
        expected = before * (1 / 25, 1 / 5, 1)
        np.testing.assert_allclose(after, expected / expected.sum(), atol=0.03)


def test_stratified_pairs_fill_the_bins_evenly():
    draw = np.random.default_rng(0)
    values, known = draw.uniform(0, 1, (200, 260)), draw.uniform(size=(200, 260)) < 0.6
    picture = np.zeros((200, 260), np.uint8)
    config = PairsConfig(num_pairs=2400, sampler="stratified")
    drawn = sample_pairs(picture, values, known, config, CounterRng(0), RANGE)
    assert drawn.drawn == {"stratified": 2400}
    span, counts = robust_range(values, known), {}
    for y_a, x_a, y_b, x_b, _ in drawn.pairs.tolist():
        difference = abs(values[y_a, x_a] - values[y_b, x_b]) / span
        distance = ((y_a - y_b) ** 2 + (x_a - x_b) ** 2) ** 0.5 / (200**2 + 260**2) ** 0.5
        bin_ = (
            sum(difference > bound for bound in DIFFERENCE_BOUNDS),
            sum(distance > bound for bound in DISTANCE_BOUNDS),
        )
        counts[bin_] = counts.get(bin_, 0) + 1
    assert len(counts) == 24
    assert min(counts.values()) >= 85 and max(counts.values()) <= 105
    assert equal_share(drawn.pairs) == pytest.approx(1 / 6, abs=0.01)
    random_pairs = sample_pairs(picture, values, known, PairsConfig(num_pairs=2400), CounterRng(0), RANGE)
    assert equal_share(random_pairs.pairs) < 0.06


def test_bounds_belong_to_the_bin_below():
    values = np.array([[0.0, 0.25, 100.0]])
    a, b = np.array([0, 0, 1]), np.array([1, 2, 2])
    bins = pair_bins(values, a, b, 12.5) // 4  # 0.25 is 2 % of 12.5
    assert bins.tolist() == [0, 5, 5]


@pytest.mark.parametrize("seed", range(20))
def test_quotas_are_as_equal_as_the_counts_allow(seed):
    draw = np.random.default_rng(seed)
    counts = draw.integers(0, 50, draw.integers(1, 12)) * draw.integers(0, 2)
    total = int(draw.integers(1, 300))
    quotas = equal_quotas(counts, total)
    left, slow = min(total, counts.sum()), np.zeros_like(counts)
    while left:  # deal out one by one, always to the poorest that still has some
        open_bins = [place for place in range(len(counts)) if slow[place] < counts[place]]
        slow[min(open_bins, key=lambda place: (slow[place], place))] += 1
        left -= 1
    np.testing.assert_array_equal(quotas, slow)
