import os
import time
from pathlib import Path

import pytest

from pipeline.train.surroundings import (
    Launcher,
    age_seconds,
    budget_of,
    find_launcher,
    launcher_state,
    seconds_since_start,
)

STAT = "1 ({}) S 0 0 0 0 -1 4194560 41738 570800 0 201 124 498 10890 6343 20 0 13 0 {} 50356224 4466 1844 1 1 0"


@pytest.mark.parametrize("command", ["init", "my (odd) name", ") S 1 2", "a b c d"])
@pytest.mark.parametrize(("start_ticks", "age"), [(30, 99.7), (5000, 50.0), (10_000, 0.0)])
def test_the_age_of_a_process_is_the_uptime_less_its_start(command, start_ticks, age):
    assert age_seconds(STAT.format(command, start_ticks), "100.00 321.5\n", 100) == pytest.approx(age)


@pytest.mark.parametrize(("stat_text", "uptime_text"), [("", "1 1"), ("1 (x) S 0", "1 1"), (STAT.format("x", 1), "?")])
def test_other_texts_are_no_age(stat_text, uptime_text):
    with pytest.raises(ValueError, match=r"stat|float"):
        age_seconds(stat_text, uptime_text, 100)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_this_process_grows_older_and_the_container_is_at_least_as_old():
    first = seconds_since_start(container=False)
    time.sleep(0.1)
    second = seconds_since_start(container=False)
    assert 0 < first < 24 * 3600
    assert second - first == pytest.approx(0.1, abs=0.09)
    assert seconds_since_start(container=True) > 0


KAGGLE = {"KAGGLE_KERNEL_RUN_TYPE": "Batch"}
COLAB = {"COLAB_RELEASE_TAG": "release-colab"}


@pytest.mark.parametrize(
    ("configured", "environ", "hours", "from_container", "reason"),
    [
        (None, {}, None, False, "session.max_hours is not set"),
        (2.0, {}, 2.0, False, "session.max_hours, counted from the start of the process"),
        (None, KAGGLE, 11.0, True, "preset on Kaggle, counted from the start of the container"),
        (2.0, KAGGLE, 2.0, True, "session.max_hours, counted from the start of the container"),
        (None, COLAB, 11.0, True, "preset on Colab, counted from the start of the container"),
    ],
)
def test_the_budget_is_the_configured_one_or_a_preset(configured, environ, hours, from_container, reason):
    budget = budget_of(configured, {"HOME": "/root", **environ})
    assert (budget.max_hours, budget.from_container_start) == (hours, from_container)
    assert budget.reason.startswith(reason)


ACCELERATE = {"ACCELERATE_DYNAMO_BACKEND": "no", "ACCELERATE_MIXED_PRECISION": "no"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none"}
SHELL = ["bash", "sshd: user", "/sbin/init"]


@pytest.mark.parametrize(
    ("environ", "parent", "ancestors", "expected"),
    [
        ({}, 77, SHELL, Launcher.NONE),
        ({}, 1, [], Launcher.NONE),  # nohup, whose shell has died
        ({"ACCELERATE_USE_CPU": "true", "ACCELERATE_MIXED_PRECISION": "bf16"}, 1, ["/sbin/init"], Launcher.NONE),
        (ACCELERATE, 77, ["/venv/bin/python /venv/bin/accelerate launch -m launch.train", *SHELL], Launcher.ALIVE),
        (ACCELERATE, 77, ["bash train.sh", "/venv/bin/accelerate-launch train.sh", *SHELL], Launcher.ALIVE),
        (ACCELERATE, 1, ["accelerate launch -m launch.train"], Launcher.ALIVE),  # the container's first process
        (TORCHRUN, 77, ["/venv/bin/python /venv/bin/torchrun -m launch.train", *SHELL], Launcher.ALIVE),
        (TORCHRUN, 77, ["python -m torch.distributed.run -m launch.train", *SHELL], Launcher.ALIVE),
        (TORCHRUN, 77, ["/usr/bin/python3 my_agent.py", *SHELL], Launcher.ALIVE),
        (ACCELERATE, 1, ["/sbin/init"], Launcher.GONE),
        (TORCHRUN, 900, ["/lib/systemd/systemd --user", "/sbin/init"], Launcher.GONE),
        (TORCHRUN, 1, [], Launcher.GONE),
        (TORCHRUN, 77, [], Launcher.ALIVE),
    ],
)
def test_the_signs_of_a_launcher(environ, parent, ancestors, expected):
    assert launcher_state({"HOME": "/root", **environ}, parent, ancestors) is expected


def test_the_tests_themselves_were_not_started_by_a_launcher():
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("ACCELERATE_", "TORCHELASTIC"))
    }
    assert find_launcher(environ) is Launcher.NONE
