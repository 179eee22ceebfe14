import json
import random

import pytest
import torch

from pipeline.data.mixture import Mixture
from pipeline.data.order import SampleOrder
from pipeline.train.samples_log import (
    ConsumedSample,
    SamplesLog,
    in_slot_order,
    own_samples,
    read_samples,
    surviving_path,
)


def samples_of(step):
    return [ConsumedSample(0, 1, 10 * step + slot, f"key-{step}-{slot}") for slot in range(2)]


def write_session(path, steps, again_until=0):
    log = SamplesLog(path)
    for step in steps:
        log.write(step, samples_of(step), again=step <= again_until)
    log.close()
    return log


def test_lines_come_back_with_the_marks_they_were_given(tmp_path):
    path = tmp_path / "samples.jsonl"
    log = SamplesLog(path)
    odd = [ConsumedSample(1, 0, 5, 'a"\n\u2028é'), ConsumedSample(0, 3, 7, "b", instead_of=9)]
    log.write(1, odd, again=False)
    log.write(2, odd[:1], again=True)
    log.close()
    lines = path.read_text().splitlines()
    assert json.loads(lines[0]) == {"step": 1, "session": 1, "samples": [[1, 0, 5, odd[0].key], [0, 3, 7, "b", 9]]}
    first, second = read_samples(path)
    assert (first.step, first.session, first.again, first.samples) == (1, 1, False, tuple(odd))
    assert (second.again, second.samples) == (True, tuple(odd[:1]))


def test_the_surviving_path_is_that_of_a_list_that_every_session_cuts_where_it_begins(tmp_path):
    draw = random.Random(5)
    for trial in range(60):
        path = tmp_path / f"{trial}.jsonl"
        expected, reached = [], 0
        for number in range(1, draw.randint(2, 9)):
            resume_step = draw.randint(0, len(expected))
            steps = range(resume_step + 1, resume_step + 1 + draw.randint(0, 6))
            log = write_session(path, steps, again_until=reached)
            assert log.reached_step == reached
            if steps:
                # A session that wrote nothing leaves no trace, nor did it change what the run is.
                expected = [*expected[:resume_step], *((step, log.session) for step in steps)]
                reached = max(reached, steps[-1])
            assert log.session <= number
        assert [(one.step, one.session) for one in surviving_path(path)] == _numbered(expected)
        done = set()
        for one in read_samples(path):
            assert one.again == (one.step in done)
            done.add(one.step)


def _numbered(expected):
    assert [step for step, _ in expected] == list(range(1, len(expected) + 1))
    return expected


def test_the_surviving_path_of_no_file_is_empty(tmp_path):
    assert list(surviving_path(tmp_path / "none")) == []


def test_a_torn_end_is_cut_and_everything_else_stays(tmp_path):
    path = tmp_path / "samples.jsonl"
    write_session(path, range(1, 4))
    whole = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        log = SamplesLog(path)
        log.close()
        kept = max([end for end in ends if end <= cut], default=0)
        assert path.read_bytes() == whole[:kept]
        assert log.damaged_lines == (kept < cut)
        assert log.reached_step == sum(end <= cut for end in ends)


@pytest.mark.parametrize(
    "damage",
    [
        b"\0" * 5000 + b"\n",
        b"\xff\xfe{\n",
        b"[" * 100_000 + b"\n",
        b'{"step": 4, "session": 1}\n',
        b'{"step": 4, "session": 1, "samples": [[0, 1, 2]]}\n',
        b'{"step": 4, "session": 1, "samples": [[0, 1, 2, 3]]}\n',
        b'{"step": 4, "session": 1, "samples": [7]}\n',
        b'{"step": 1' + b"0" * 400 + b', "session": 1, "samples": []}\n',
        b'{"step": -4, "session": 1, "samples": []}\n',
        b'{"step": 4, "session": true, "samples": []}\n',
    ],
)
def test_damaged_lines_stay_where_they_are_and_do_not_count(tmp_path, damage):
    path = tmp_path / "samples.jsonl"
    write_session(path, range(1, 4))
    before = path.read_bytes()
    path.write_bytes(before + damage)
    write_session(path, range(4, 6))
    assert path.read_bytes().startswith(before + damage)
    assert [one.step for one in read_samples(path)] == [1, 2, 3, 4, 5]
    assert [one.step for one in surviving_path(path)] == [1, 2, 3, 4, 5]


def test_a_batch_is_told_in_slot_order_whatever_processes_and_micro_batches_it_was_split_into():
    orders = [SampleOrder([5, 4], seed=3, lanes=1, window=4), SampleOrder([7], seed=3, lanes=1, window=4)]
    mixture = Mixture(orders, [2.0, 1.0])
    positions = list(range(24, 36))
    unreadable = positions[5]

    def batch(mine):
        located = [mixture.locate(position) for position in mine]
        served = [
            (sample + 1) % 4 if position == unreadable else sample
            for position, (_, _, sample) in zip(mine, located, strict=True)
        ]
        return {
            "positions": torch.tensor(mine),
            "dataset": torch.tensor([dataset for dataset, _, _ in located]),
            "sample": torch.tensor(served),
            "keys": [f"{dataset}-{sample}" for (dataset, _, _), sample in zip(located, served, strict=True)],
        }

    told = []
    for world_size, micro in ((1, 12), (1, 5), (2, 4), (3, 1), (4, 2)):
        texts = []
        for rank in reversed(range(world_size)):
            mine = positions[rank::world_size]
            texts += own_samples([batch(mine[first : first + micro]) for first in range(0, len(mine), micro)])
        told.append(in_slot_order(texts, mixture.locate))
    assert all(one == told[0] for one in told)
    for position, one in zip(positions, told[0], strict=True):
        dataset, epoch, sample = mixture.locate(position)
        assert (one.dataset, one.epoch) == (dataset, epoch)
        assert one.key == f"{one.dataset}-{one.sample}"
        if position == unreadable:
            assert (one.sample, one.instead_of) == ((sample + 1) % 4, sample)
        else:
            assert (one.sample, one.instead_of) == (sample, None)
