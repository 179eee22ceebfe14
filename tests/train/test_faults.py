"""Runs that are killed again and again end as one that never was.

Seed and number of kills of the long form: DEPTHRANK_FAULT_SEED, DEPTHRANK_FAULT_KILLS.
"""

import os
import random
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.data.order import SampleOrder
from pipeline.data.store import ShardStore
from pipeline.train.samples_log import read_samples, surviving_path
from pipeline.train.status import read_status
from pipeline.train.trainer import train

from . import damages
from .killed_run import KilledRun, Life
from .test_trainer import make_config, make_dataset, train_until

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are watched through /proc"),
]

SEED = int(os.environ.get("DEPTHRANK_FAULT_SEED", "6"))
KILLS = int(os.environ.get("DEPTHRANK_FAULT_KILLS", "100"))
EVALUATE_EVERY = 5
START_SECONDS = 300.0
"""Patience with the first new step of a life, on a busy machine."""
END_SECONDS = 120.0
"""What is left of a life has to end by itself within this; torchrun gives its processes 30 s."""
STEPS_PER_KILL = 9
START_UP_KILLS = 0.08
"""Besides the kills that count, so many lives a kill end before their first new step."""
REPLACEABLE = [damage for damage in damages.ALL if damage not in (damages.folder, damages.pipe, damages.locked_away)]
"""What leaves a file that can be replaced; a folder or a pipe in a file's place is a mistake to be told."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("shards") / "planes")


def settings_of(dataset, steps, **changes):
    """A network so small that a step takes some hundredths of a second."""
    quick = {
        "model__encoder_width": 8,
        "train__steps": steps,
        "checkpoint__every_steps": 2,
        "monitor__log_every_steps": 1,
        "monitor__eval_every_steps": EVALUATE_EVERY,
        "monitor__log_samples": True,
    }
    return make_config("runs/unused", dataset, **{**quick, **changes}).model_dump(mode="json")


@dataclass
class Toll:
    """How the lives of a run ended."""

    lives: int = 0
    moments: Counter[str] = field(default_factory=Counter)
    victims: Counter[str] = field(default_factory=Counter)
    memory: Counter[str] = field(default_factory=Counter)
    """Names left in /dev/shm, by who was killed."""

    def __str__(self) -> str:
        return (
            f"{sum(self.victims.values())} kills after new progress in {self.lives} lives; "
            f"in {dict(self.moments)}, of {dict(self.victims)}; left in /dev/shm after {dict(self.memory)}"
        )


def kill_often(run: KilledRun, kills: int, victims: list[str], draw: random.Random) -> Toll:
    """Let a run live again and again, each time until it has done a new step and a bit more."""
    toll, begin = Toll(), time.monotonic()
    orphaned: Life | None = None
    while sum(toll.victims.values()) < kills:
        workers = draw.choice([0, 1, 2])
        life = run.start([f"checkpoint.every_steps={draw.randint(1, 3)}", f"data.num_workers={workers}"])
        toll.lives += 1
        if orphaned is not None:  # its successor has been started meanwhile and waits for its lock
            assert orphaned.wait_until_gone(END_SECONDS) == {}
            orphaned = None
        if draw.random() < START_UP_KILLS:
            time.sleep(8 * draw.random())
            whom, moment = "all", "start-up"
            life.kill(whom, draw)
        else:
            assert run.wait_for_new_step(life, seconds=START_SECONDS), run.tail()
            whom = draw.choice([name for name in victims if name != "worker" or workers])
            aim_and_wait(run, life, draw)
            moment = "save" if run.is_saving else "evaluation" if run.is_evaluating(EVALUATE_EVERY) else "step"
            assert life.kill(whom, draw), run.tail()
            toll.victims[whom] += 1
        toll.moments[moment] += 1
        if whom == "launcher" and draw.random() < 0.5:
            orphaned = life
        else:
            assert life.wait_until_gone(END_SECONDS) == {}, f"outlived the {whom}: {run.tail()}"
            toll.memory[whom] += len(life.leaked_memory())
        if toll.lives % 5 == 0:
            say(f"  {time.monotonic() - begin:4.0f} s, step {run.look()}, {run.again_steps} again; {toll}")
    if orphaned is not None:
        assert orphaned.wait_until_gone(END_SECONDS) == {}
    return toll


def aim_and_wait(run: KilledRun, life: Life, draw: random.Random) -> None:
    """Wait for some more steps, a save or an evaluation, and a random bit longer."""
    step = run.look() + draw.randint(0, 4)
    aims = [lambda: run.look() >= step, lambda: run.is_saving, lambda: run.is_evaluating(EVALUATE_EVERY)]
    run.wait_until(life, draw.choice([aims[0], *aims]), seconds=START_SECONDS)
    time.sleep(0.04 * draw.random())


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def check_same_results(run: Path, whole: Path) -> None:
    last = max((whole / "checkpoints").glob("step_*")).relative_to(whole)
    compared = [Path("model.safetensors"), *(last / path.name for path in (whole / last).glob("*.safetensors"))]
    assert len(compared) >= 3
    for name in compared:
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    status = read_status(run)
    assert status is not None
    assert status.state == "finished"
    assert {path.name for path in run.iterdir()} == {path.name for path in whole.iterdir()}
    assert not list((run / "checkpoints").glob(".*"))


def check_each_sample_once(run: Path, dataset: str, steps: int, batch_size: int, seed: int) -> None:
    store = ShardStore(dataset, "train")
    data = make_config("runs/unused", dataset).data
    order = SampleOrder(store.shard_sizes, seed=seed, lanes=data.lanes, window=data.window)
    path = list(surviving_path(run / "samples.jsonl"))
    assert [one.step for one in path] == list(range(1, steps + 1))
    taken = [(sample.epoch, sample.sample) for one in path for sample in one.samples]
    assert taken == [order.locate(position) for position in range(steps * batch_size)]
    times = Counter(taken)
    complete = steps * batch_size // len(store)
    assert complete > 1
    for epoch in range(complete):
        assert [times[epoch, sample] for sample in range(len(store))] == [1] * len(store)
    keys = {sample.sample: sample.key for one in path for sample in one.samples}
    assert len(keys) == len(set(keys.values())) == len(store)
    assert all(sample.key == keys[sample.sample] for one in path for sample in one.samples)
    reached = 0
    for one in read_samples(run / "samples.jsonl"):
        assert one.again == (one.step <= reached)
        reached = max(reached, one.step)


def check_nothing_grows(run: KilledRun, toll: Toll) -> None:
    for whom, names in toll.memory.items():
        # Where everything is killed at once nobody is left who could remove the names of the semaphores.
        assert names == 0 or whom == "all", toll
    # Not ours to remove: folders in which the fork server of Python listens, torchrun logs, torch compiles.
    kinds = Counter(re.split("[-_]", path.name)[0] for path in run.temporary.iterdir())
    assert set(kinds) <= {"pymp", "torchelastic", "torchinductor"}, kinds
    assert kinds["torchinductor"] <= 1
    assert kinds["pymp"] <= run.processes * toll.lives
    assert kinds["torchelastic"] <= toll.lives + 1


def test_a_run_that_is_killed_twice_ends_bit_for_bit_as_one_that_never_was(tmp_path, dataset, monkeypatch):
    steps = 12
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    settings = settings_of(dataset, steps, monitor__eval_every_steps=None)
    draw = random.Random(SEED)
    with KilledRun(tmp_path, settings, processes=1) as run:
        for number, aim in enumerate(("save", "step")):
            life = run.start(["checkpoint.every_steps=1", f"data.num_workers={number % 2}"])
            assert run.wait_for_new_step(life, seconds=START_SECONDS), run.tail()
            if aim == "save":
                run.wait_until(life, lambda: run.is_saving, seconds=START_SECONDS)
            assert life.kill("trainer", draw)
            assert life.wait_until_gone(END_SECONDS) == {}, run.tail()
            assert life.leaked_memory() == set()
        run.finish(seconds=START_SECONDS)
    whole = make_config(tmp_path / "whole", dataset)
    whole = whole.model_validate({**settings, "run": str(tmp_path / "whole")})
    assert train(whole, command="x").state == "finished"
    check_same_results(run.path, tmp_path / "whole")
    check_each_sample_once(run.path, dataset, steps, batch_size=4, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("damage", REPLACEABLE)
def test_no_damage_of_what_lies_beside_the_checkpoints_changes_a_run(tmp_path, dataset, damage, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    settings, draw = settings_of(dataset, steps=6), random.Random(SEED)
    config = {
        name: make_config(tmp_path / name, dataset).model_validate({**settings, "run": str(tmp_path / name)})
        for name in ("run", "whole")
    }
    assert train(config["whole"], command="x").state == "finished"
    assert train_until(config["run"], 3).state == "stopped"
    run = tmp_path / "run"
    beside = [path for path in run.rglob("*") if path.is_file() and "checkpoints" not in path.parts]
    beside.remove(run / ".lock")
    assert {"metrics.jsonl", "samples.jsonl", "status.json", "config.yaml", "env.json"} <= {
        path.name for path in beside
    }
    for path in beside:
        damage(path, draw)
    assert train(config["run"], command="x").state == "finished"
    check_same_results(run, tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "share", "victims", "changes"),
    [
        (1, 0.6, ["all", "trainer", "trainer", "worker"], {}),
        (2, 0.4, ["all", "all", "rank", "launcher", "worker"], {"optim__ema_decay": 0.9}),
    ],
    ids=["one-process", "two-processes"],
)
def test_many_kills_change_nothing(tmp_path, dataset, processes, share, victims, changes):
    kills = round(share * KILLS)
    steps, draw = STEPS_PER_KILL * kills, random.Random(f"{SEED} {processes}")
    settings = settings_of(dataset, steps, **changes)
    say(f"\n{kills} kills of {processes} process(es), {steps} steps; DEPTHRANK_FAULT_SEED={SEED}")
    with KilledRun(tmp_path / "killed", settings, processes=processes) as run:
        toll = kill_often(run, kills, victims, draw)
        run.finish(seconds=3 * START_SECONDS)
        say(f"{toll}; {run.again_steps} of {steps} steps done again; left in TMPDIR: {run.count_left_files()}")
        check_nothing_grows(run, toll)
    with KilledRun(tmp_path / "whole", settings, processes=processes) as whole:
        whole.finish(seconds=3 * START_SECONDS)
    check_same_results(run.path, whole.path)
    check_each_sample_once(run.path, dataset, steps, batch_size=4, seed=0)
