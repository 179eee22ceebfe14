import os

import pytest
import torch

from model.losses.ssi import _median, _median_by_sorting
from pipeline.train.determinism import WORKSPACE, deterministic_algorithms
from shards.errors import ConfigError


@pytest.fixture(autouse=True)
def no_workspace(monkeypatch):
    monkeypatch.setenv(WORKSPACE, "is put back afterwards")
    monkeypatch.delenv(WORKSPACE)


def settings():
    return torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark


@pytest.mark.parametrize("benchmark", [False, True])
def test_the_settings_hold_inside_and_are_put_back_whatever_happens(monkeypatch, benchmark):
    if torch.cuda.is_initialized():  # by tests before this one
        pytest.skip("needs a process in which CUDA has not started")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", benchmark)
    before = settings()

    def fail_inside():
        with deterministic_algorithms(True, "cuda"):
            assert torch.are_deterministic_algorithms_enabled()
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
            assert not torch.backends.cudnn.benchmark
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert settings() == before
    assert os.environ[WORKSPACE] == ":4096:8"
    with deterministic_algorithms(True, "cuda"):
        assert torch.are_deterministic_algorithms_enabled()
    assert settings() == before


@pytest.mark.parametrize(("wanted", "device"), [(False, "cuda"), (True, "cpu")])
def test_nothing_changes_unless_wanted_and_on_a_cpu(wanted, device):
    before = settings()
    with deterministic_algorithms(wanted, device):
        assert settings() == before
        assert WORKSPACE not in os.environ


def test_a_workspace_that_does_not_repeat_is_refused(monkeypatch):
    monkeypatch.setenv(WORKSPACE, ":0:0")
    before = settings()
    with (
        pytest.raises(ConfigError, match=r"train\.deterministic: CUBLAS_WORKSPACE_CONFIG=:0:0 .* :4096:8 or :16:8"),
        deterministic_algorithms(True, "cuda"),
    ):
        pass
    assert settings() == before


def test_the_median_by_sorting_is_that_of_torch_with_ties_gaps_and_nan():
    rng = torch.Generator().manual_seed(0)
    values = torch.randint(9, (40, 33), generator=rng).double()  # many equal ones
    known = torch.rand(40, 33, generator=rng) < torch.linspace(0.05, 1, 40)[:, None]
    values[3, 5], known[3, 5] = torch.nan, True
    has_any = known.any(1)
    assert has_any.sum() > 30
    assert torch.equal(_median(values, known)[has_any], _median_by_sorting(values, known)[has_any])
    distinct = torch.rand(40, 33, generator=rng).double()
    gradients = []
    for find in (_median, _median_by_sorting):
        leaf = distinct.clone().requires_grad_()
        find(leaf, known)[has_any].square().sum().backward()
        gradients.append(leaf.grad)
    assert torch.equal(*gradients)


def test_bilinear_doubling_as_torch_replaces_it_has_the_same_value_and_gradient():
    """In deterministic mode `interpolate` takes this way on a GPU; here it is walked on the CPU."""
    decompositions = pytest.importorskip("torch._decomp.decompositions")
    rng = torch.Generator().manual_seed(0)
    for align_corners in (False, True):
        image = torch.rand(2, 3, 5, 7, generator=rng, dtype=torch.float64)
        weight = torch.rand(2, 3, 10, 14, generator=rng, dtype=torch.float64)
        results = []
        for way in (
            lambda leaf, aligned=align_corners: torch.nn.functional.interpolate(
                leaf, scale_factor=2, mode="bilinear", align_corners=aligned
            ),
            lambda leaf, aligned=align_corners: decompositions._upsample_linear_vec(leaf, None, aligned, [2.0, 2.0]),
        ):
            leaf = image.clone().requires_grad_()
            output = way(leaf)
            (output * weight).sum().backward()
            results.append((output.detach(), leaf.grad))
        torch.testing.assert_close(*results)
