"""The long run in small: configs/redweb.yaml, 120 epochs of a stand-in in the released layout, in many sessions.

Run with -s to see what docs/long_run.md quotes.
"""

import itertools
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from launch.recipe import load_recipe
from launch.shards import main as pack
from pipeline.data.store import ShardStore
from pipeline.train.config import RunConfig
from pipeline.train.metrics_log import read_metrics
from pipeline.train.status import read_status
from shards.sources.render import render_scene

from .killed_run import KilledRun
from .test_faults import check_each_sample_once, check_same_results, say
from .test_tensorboard import HISTOGRAMS, ONCE, PICTURES, PluginAccumulator, read

pytestmark = [
    pytest.mark.slow,
    pytest.mark.faults,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are watched through /proc"),
]

RECIPE = "configs/redweb.yaml"
PICTURES_DRAWN = 28
HEIGHT, WIDTH = 72, 96
SMALL = [
    "model.encoder=resnet18",
    "model.encoder_weights=none",
    "model.encoder_width=8",
    "model.decoder_channels=8",
    "model.freeze_bn=false",
    "optim.lr=1e-2",
    "optim.encoder_lr_ratio=1",
    "optim.warmup_steps=20",
    "train.size=64",
    "train.threads=1",
    "data.num_pairs=500",
    "data.num_workers=1",
    "checkpoint.every_steps=40",
    "monitor.log_every_steps=10",
    "monitor.eval_every_steps=100",
    "monitor.log_samples=true",
]
"""What the stand-in needs of the recipe changed; all else is as shipped."""
PATIENCE_SECONDS = 600.0


def write_stand_in(root):
    """ReDWeb_V1 with rendered scenes: bright is far, 255 the sky."""
    for folder in ("Imgs", "RDs"):
        (root / folder).mkdir(parents=True)
    for index in range(PICTURES_DRAWN):
        scene = render_scene(5, index, HEIGHT, WIDTH)
        nearness = scene.disparity_px / scene.disparity_px.max()
        Image.fromarray(scene.left).save(root / "Imgs" / f"{index:04d}.jpg", quality=92)
        levels = np.rint(255 * (1 - nearness)).astype(np.uint8)
        Image.fromarray(levels).save(root / "RDs" / f"{index:04d}.png")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("redweb")
    write_stand_in(folder / "ReDWeb_V1")
    out = str(folder / "shards")
    arguments = ["--config", RECIPE, f"source.path={folder / 'ReDWeb_V1'}", f"out={out}", "shards.workers=1"]
    assert pack(arguments) == 0
    return out


def settings_of(dataset):
    overrides = [*SMALL, f"data.train={dataset}", f"data.val={dataset}"]
    return load_recipe(RECIPE, overrides, needs=RunConfig).recipe.run_config().model_dump(mode="json")


def end_session(run, life, how, until_step):
    """Let a life come to a step and end it; returns whether it saved what it had."""
    assert run.wait_until(life, lambda: run.look() >= until_step, seconds=PATIENCE_SECONDS), run.tail()
    if how == "kill -9":
        assert life.kill("all", random.Random(0))
    elif how == "stop file":
        (run.path / "STOP").touch()
    else:
        os.kill(life.process.pid, signal.SIGTERM)
    assert life.wait_until_gone(PATIENCE_SECONDS) == {}
    return how != "kill -9"


def use_up_a_budget(run, total):
    """A session that ends by its budget after some steps; returns the hours that it had."""
    begin, before = time.monotonic(), run.look()
    life = run.start()
    assert run.wait_for_new_step(life, seconds=PATIENCE_SECONDS), run.tail()
    seconds = 1.2 * (time.monotonic() - begin) + 1
    end_session(run, life, "SIGTERM", run.look())
    for budget in itertools.accumulate(itertools.repeat(1.3), lambda former, factor: former * factor, initial=seconds):
        life = run.start([f"session.max_hours={budget / 3600:.6f}"])
        assert life.process.wait(PATIENCE_SECONDS) == 0, run.tail()
        status = read_status(run.path)
        assert status is not None
        assert status.state == "stopped"
        assert "budget of" in status.reason
        # A busy machine may have needed all of it for the start.
        if run.look() > before + 2:
            assert run.look() < total
            return budget / 3600
    raise AssertionError("no budget was large enough")


def curve_of(run):
    """The figures of each step line and evaluation that do not depend on the clock."""
    return [
        {name: value for name, value in line.items() if not name.startswith("perf/") and name != "session"}
        for line in read_metrics(run / "metrics.jsonl")
    ]


def test_120_epochs_in_many_sessions_are_those_of_one(tmp_path, dataset):
    settings, samples = settings_of(dataset), len(ShardStore(dataset, "train"))
    total = -(-120 * samples // 4)
    say(f"\n{samples} samples, 120 epochs, {total} steps of 4")
    begin = time.monotonic()
    with KilledRun(tmp_path / "many", settings, processes=1) as run:
        ends = ["kill -9", "stop file", "kill -9", "SIGTERM", "kill -9"]
        for number, how in enumerate(ends, start=1):
            saved = end_session(run, run.start(), how, number * total // 8)
            say(f"  {time.monotonic() - begin:4.0f} s: {how} at step {run.look()}, {'saved' if saved else 'lost'}")
        hours = use_up_a_budget(run, total)
        say(f"  {time.monotonic() - begin:4.0f} s: budget of {3600 * hours:.0f} s used up at step {run.look()}")
        run.finish(seconds=PATIENCE_SECONDS)
    say(f"  {time.monotonic() - begin:4.0f} s: finished; {run.again_steps} of {total} steps done again")
    with KilledRun(tmp_path / "one", settings, processes=1) as one:
        one.finish(seconds=PATIENCE_SECONDS)
    sessions = len(list((run.path / "tb").iterdir()))
    assert sessions >= len(ends) + 3
    check_same_results(run.path, one.path)
    check_each_sample_once(run.path, dataset, total, batch_size=4, seed=0)
    check_one_curve(run.path, one.path)
    whdr = [line["val/whdr"] for line in curve_of(run.path) if "val/whdr" in line]
    assert min(whdr) < 0.3 < whdr[0]
    say(
        f"  {sessions} sessions, one curve; WHDR {whdr[0]:.1%} at step 100, "
        f"{min(whdr):.1%} at best, {whdr[-1]:.1%} at last"
    )


def check_one_curve(run: Path, one: Path) -> None:
    """Files and TensorBoard show the run in many sessions as they show the one in a single session."""
    assert curve_of(run) == curve_of(one)
    many, single = read(run / "tb"), read(one / "tb")
    # Those of perf/ are another time's, and missing where a session is over before its warm-up.
    tags, wanted = ([tag for tag in e.Tags()["scalars"] if not tag.startswith("perf/")] for e in (many, single))
    assert tags == wanted
    for tag in tags:
        points = [[(point.step, point.value) for point in events.Scalars(tag)] for events in (many, single)]
        assert points[0] == points[1], tag
    for tag in HISTOGRAMS:
        histograms = [[(p.step, p.histogram_value) for p in events.Histograms(tag)] for events in (many, single)]
        assert histograms[0] == histograms[1]
    for tag in PICTURES:
        pictures = [[(p.step, p.encoded_image_string) for p in events.Images(tag)] for events in (many, single)]
        assert pictures[0] == pictures[1]
    once = read(run / "tb", PluginAccumulator)
    assert all(len(once.Tensors(tag)) == 1 for tag in ONCE)
