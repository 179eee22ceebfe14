import json
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.train.lock import RunLock
from pipeline.train.status import Status, describe, exit_code, read_status, write_status
from shards.errors import RunError

STATUS = {
    "state": "running",
    "reason": "training",
    "step": 250,
    "total_steps": 1000,
    "samples_seen": 2000,
    "hours": 1.5,
    "next_command": "python -m launch.train --config a.yaml",
}


@pytest.mark.parametrize(("state", "code"), [("finished", 0), ("stopped", 75), ("failed", 1)])
def test_a_status_comes_back_and_gives_its_exit_code(tmp_path, state, code):
    status = Status(**{**STATUS, "state": state})
    write_status(tmp_path, status)
    assert read_status(tmp_path) == status
    assert exit_code(status) == code
    assert datetime.now(UTC) - datetime.fromisoformat(status.updated) < timedelta(minutes=1)
    assert list(tmp_path.iterdir()) == [tmp_path / "status.json"]


def test_a_run_that_says_it_is_running_is_believed_while_its_lock_is_held(tmp_path):
    write_status(tmp_path, Status(**STATUS))
    with RunLock(tmp_path):
        status = read_status(tmp_path)
        assert (status.state, exit_code(status)) == ("running", 75)
    status = read_status(tmp_path)
    assert (status.state, status.reason, exit_code(status)) == (
        "stopped",
        "was killed: nobody holds the run's lock",
        75,
    )
    assert status.step == 250
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "running", "looking changes nothing"


def test_a_folder_without_a_run_has_no_status(tmp_path):
    assert read_status(tmp_path) is None
    assert read_status(tmp_path / "nothing") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a status of a run .file: Invalid JSON"),
        ("{}", "not a status of a run .state: Field required"),
        (json.dumps({**STATUS, "state": "asleep", "updated": "x"}), "state: Input should be 'running'"),
        (json.dumps({**STATUS, "step": -1}), "step: Input should be greater"),
        (json.dumps({**STATUS, "step": "7"}), "step: Input should be a valid integer"),
        (json.dumps({**STATUS, "hours": float("nan")}), "hours: Input should be a finite number"),
        (json.dumps({**STATUS, "reason": "x" * 9000}), "reason: String should have at most 8192"),
        (" " * (1 << 20), "larger than 65536 bytes"),
    ],
)
def test_a_damaged_status_is_named(tmp_path, text, message):
    (tmp_path / "status.json").write_text(text)
    with pytest.raises(RunError, match=f"status.json: .*{message}"):
        read_status(tmp_path)


def test_fields_of_a_later_version_are_passed_over(tmp_path):
    (tmp_path / "status.json").write_text(json.dumps({**STATUS, "state": "finished", "updated": "now", "mood": "good"}))
    assert read_status(tmp_path).state == "finished"


def test_a_status_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(RunError, match="status was not written"):
        write_status(tmp_path / "nothing", Status(**STATUS))


def test_what_a_person_reads():
    status = Status(
        **{**STATUS, "state": "stopped", "reason": "received SIGTERM", "updated": "2026-01-02T03:04:05+00:00"}
    )
    assert describe(status) == (
        "stopped at step 250 of 1000 (25%): received SIGTERM. 2000 samples seen in 1.50 h;"
        " as of 2026-01-02T03:04:05+00:00.\nNext: python -m launch.train --config a.yaml"
    )
