import json
import random

import numpy as np
import pytest
import torch

from pipeline.train.checkpoint_folder import _JSON_LIMIT_BYTES
from pipeline.train.checkpoint_manifest import json_bytes
from pipeline.train.rng import capture_rng, restore_rng, seed_generators

CPU = torch.device("cpu")


def draw() -> tuple:
    return random.random(), random.gauss(), np.random.rand(), np.random.randn(), torch.rand(3).tolist()


def test_the_generators_continue_after_json_as_if_nothing_had_been():
    # One gauss leaves the second of a pair cached, in Python's and in numpy's generator.
    random.gauss(), np.random.randn(), torch.randn(1)
    captured = json.loads(json.dumps(capture_rng(CPU), allow_nan=False))
    expected = [draw() for _ in range(3)]
    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    assert draw() != expected[0]
    restore_rng(captured, CPU)
    assert [draw() for _ in range(3)] == expected


def test_the_plain_lists_of_earlier_checkpoints_are_restored():
    version, words, gauss_next = random.getstate()
    kind, keys, *rest = np.random.get_state(legacy=True)
    captured = capture_rng(CPU) | {"python": [version, list(words), gauss_next], "numpy": [kind, keys.tolist(), *rest]}
    captured = json.loads(json.dumps(captured))
    expected = draw()
    restore_rng(captured, CPU)
    assert draw() == expected


def test_a_thousand_processes_fit_into_the_state_of_a_checkpoint():
    assert 1024 * len(json_bytes({"rng": [capture_rng(CPU)]})) < _JSON_LIMIT_BYTES / 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_generator_of_the_gpu_continues_too():
    device = torch.device("cuda", torch.cuda.current_device())
    captured = json.loads(json.dumps(capture_rng(device)))
    expected = torch.rand(5, device="cuda")
    restore_rng(captured, device)
    assert torch.equal(torch.rand(5, device="cuda"), expected)


def test_the_generators_of_each_process_and_step_are_seeded_apart_and_repeat_themselves():
    drawn = []
    for key in [(0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0), (0, 0, 0)]:
        seed_generators(*key)
        drawn.append(draw())
    assert drawn[0] == drawn[4]
    for generator in range(5):
        assert len({str(draws[generator]) for draws in drawn[:4]}) == 4


@pytest.mark.parametrize("broken", [{"python": [3, [1, 2], None]}, {"torch": "!"}, {"torch": "QUJD"}, {"numpy": None}])
def test_anything_else_is_refused(broken):
    with pytest.raises(ValueError, match=r"not a captured state|state vector|invalid"):
        restore_rng({**capture_rng(CPU), **broken}, CPU)
