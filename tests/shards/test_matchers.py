import pickle
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from shards.config import MatchConfig
from shards.errors import ConfigError
from shards.match import match
from shards.matchers import FLOWS

from .stereo_scene import moved, stereo_pair

torch = pytest.importorskip("torch")
optical_flow = pytest.importorskip("torchvision.models.optical_flow")


def score(method, left, right, truth, **settings):
    """Share of the known pixels that are off by more than a pixel, away from depth edges; and the known share."""
    matched = match(left, right, MatchConfig(method=method, **settings))
    known, kernel = matched.left.known, np.ones((7, 7))
    judged = known & (cv2.dilate(truth, kernel) - cv2.erode(truth, kernel) < 1)
    return float((np.abs(matched.left.disparity_px - truth)[judged] > 1).mean()), float(known.mean())


@pytest.mark.parametrize("method", ["fusion", "dis", "sgbm"])
@pytest.mark.parametrize("lean_px", [0.0, 6.0])
def test_each_method_finds_the_scene(method, lean_px):
    wrong, coverage = score(method, *stereo_pair(lean_px=lean_px))
    assert wrong < 0.01
    assert coverage > 0.85


@pytest.mark.parametrize("method", ["fusion", "dis", "sgbm"])
def test_both_directions_point_at_each_other(method):
    left, right, truth = stereo_pair(96, 144, boxes=((20, 70, 40, 90, 9.0),))
    flows = FLOWS[method](left, right, MatchConfig())
    for flow, sign in ((flows.forward, -1), (flows.backward, 1)):
        assert flow.shape == (96, 144, 2)
        assert flow.dtype == np.float32
        assert np.isfinite(flow).all()
        assert np.median(flow[..., 0]) == pytest.approx(3 * sign, abs=0.3)
    assert np.median(flows.forward[30:60, 50:80, 0]) == pytest.approx(-9, abs=0.3)
    if flows.second is not None:
        for second, flow in zip(flows.second, (flows.forward, flows.backward), strict=True):
            assert second.shape == (96, 144)
            both = np.isfinite(second)
            assert both.mean() > 0.7
            assert (np.abs(second - flow[..., 0])[both] < 1).mean() > 0.95
    assert (flows.second is not None) == (method == "fusion")
    assert truth.max() == 9


@pytest.mark.parametrize("method", ["fusion", "dis", "sgbm"])
def test_disparities_far_from_zero_and_of_both_signs(method):
    left, right, truth = stereo_pair()
    for shift in (-9, 7):
        wrong, coverage = score(method, left, moved(right, right_px=shift), truth - shift)
        assert wrong < 0.02
        assert coverage > 0.75


def test_fusion_finds_its_way_through_repetition():
    """Equal posts: to a local search each may be any other."""
    (wrong, coverage), (wrong_alone, coverage_alone) = (score(method, *fence()) for method in ("fusion", "dis"))
    assert wrong <= wrong_alone < 0.01
    assert coverage > coverage_alone + 0.08


def fence(height=160, width=320, *, post_px=10, shift_px=13.0):
    """Equal stripes, shifted by more than one post, between two textured ends; all at the same distance."""
    left, right, truth = stereo_pair(height, width, wall_px=shift_px, boxes=(), seed=2)
    x = np.arange(width, dtype=np.float32)
    rows = slice(30, 130)
    for picture, shift in ((left, 0.0), (right, shift_px)):
        stripes = np.where(((x + shift) % post_px) < post_px / 2, 60, 190)
        inside = (x + shift >= 90) & (x + shift < 230)
        picture[rows, inside] = stripes[inside].astype(np.uint8)[None, :, None]
        noisy = picture[rows].astype(np.float32)
        noisy += np.random.default_rng(int(shift)).normal(0, 4, noisy.shape)
        picture[rows] = np.clip(noisy, 0, 255).astype(np.uint8)
    return left, right, truth


def test_blank_pictures_match_nothing_badly():
    blank = np.full((90, 130, 3), 128, np.uint8)
    for method in ("fusion", "dis", "sgbm"):
        flows = FLOWS[method](blank, blank, MatchConfig())
        assert np.isfinite(flows.forward).all()
        matched = match(blank, blank, MatchConfig(method=method))
        assert np.isfinite(matched.left.disparity_px[matched.left.known]).all()


@pytest.fixture(scope="module")
def raft_small(tmp_path_factory) -> Iterator[Path]:
    """Weights of an untrained network, which computes on the CPU: a GPU rounds more than these tests allow."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("raft") / "small.pth"
    torch.save(optical_flow.raft_small(weights=None).state_dict(), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield path


def raft(weights, left, right):
    return FLOWS["raft"](left, right, MatchConfig(method="raft", raft_weights=str(weights)))


@pytest.mark.parametrize("size_hw", [(128, 128), (131, 150), (40, 61), (8, 136)])
def test_raft_takes_pictures_of_any_size(raft_small, size_hw):
    left, right = (texture_of(size_hw, seed) for seed in (1, 2))
    flows = raft(raft_small, left, right)
    for flow in (flows.forward, flows.backward):
        assert flow.shape == (*size_hw, 2)
        assert flow.dtype == np.float32
        assert flow.flags.c_contiguous
        assert np.isfinite(flow).all()
    back = raft(raft_small, right, left)
    np.testing.assert_allclose(back.forward, flows.backward, atol=1e-3)
    np.testing.assert_allclose(back.backward, flows.forward, atol=1e-3)


def texture_of(size_hw, seed):
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def test_raft_is_the_network_of_torchvision(raft_small):
    """Where nothing is padded, the flow is what the network itself says."""
    left, right = (texture_of((128, 128), seed) for seed in (3, 4))
    network = optical_flow.raft_small(weights=None)
    network.load_state_dict(torch.load(raft_small, weights_only=True))
    one, two = (torch.from_numpy(p).permute(2, 0, 1)[None].float() / 255 * 2 - 1 for p in (left, right))
    with torch.inference_mode():
        expected = network.eval()(one, two)[-1][0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(raft(raft_small, left, right).forward, expected, atol=1e-2)


def test_raft_reads_safetensors_too_and_both_sizes(raft_small, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(torch.load(raft_small, weights_only=True), tmp_path / "small.safetensors")
    left, right = (texture_of((40, 48), seed) for seed in (1, 2))
    one, other = (raft(path, left, right) for path in (raft_small, tmp_path / "small.safetensors"))
    np.testing.assert_array_equal(one.forward, other.forward)
    torch.save(optical_flow.raft_large(weights=None).state_dict(), tmp_path / "large.pth")
    assert raft(tmp_path / "large.pth", left, right).forward.shape == (40, 48, 2)


class Evil:
    """What pickle would run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_what_is_no_weights_of_raft_is_refused_by_name_and_runs_nothing(tmp_path):
    touched = tmp_path / "touched"
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"a": Evil(touched)}))
    torch.save({"a": Evil(touched)}, tmp_path / "evil torch.pth")
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    state = optical_flow.raft_small(weights=None).state_dict()
    state[next(iter(state))] = torch.zeros(1)
    torch.save(state, tmp_path / "shape.pth")
    picture = texture_of((16, 16), 0)
    for name in ("evil.pth", "evil torch.pth", "text.pth", "empty.safetensors", "other.pth", "list.pth", "shape.pth"):
        with pytest.raises(ConfigError, match=r"shards\.match\.raft_weights") as caught:
            raft(tmp_path / name, picture, picture)
        said = str(caught.value)
        assert name in said
        assert "holds no weights of torchvision's raft_large or raft_small" in said
        assert "\n" not in said
    assert not touched.exists()


def test_missing_weights_are_a_clear_mistake(tmp_path):
    picture = texture_of((16, 16), 0)
    with pytest.raises(ConfigError, match=r"raft_weights: there is no file .*nothing\.pth"):
        raft(tmp_path / "nothing.pth", picture, picture)
    with pytest.raises(ConfigError, match=r"there is no file"):
        raft(tmp_path, picture, picture)
    with pytest.raises(ConfigError, match=r"set shards\.match\.raft_weights"):
        match(picture, picture, MatchConfig(method="raft", align=False))


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="method"):
        MatchConfig(method="guess")
    assert set(FLOWS) == {"fusion", "dis", "sgbm", "raft"}
