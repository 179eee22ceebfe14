from pathlib import Path

import pytest

from launch import cli
from pipeline.train.lock import RunLock
from pipeline.train.status import Status, write_status


def status(state: str) -> Status:
    return Status(
        state=state,
        reason="because",
        step=30,
        total_steps=120,
        samples_seen=240,
        hours=0.5,
        next_command="depthrank train --config c.yaml",
    )


@pytest.mark.parametrize(("state", "code"), [("finished", 0), ("stopped", 75), ("failed", 1)])
def test_the_exit_code_is_the_state(state: str, code: int, tmp_path: Path, capsys) -> None:
    write_status(tmp_path, status(state))
    assert cli.main(["status", str(tmp_path)]) == code
    out, err = capsys.readouterr()
    assert err == ""
    for part in (state, "because", "30 of 120", "25%", "depthrank train --config c.yaml"):
        assert part in out


def test_a_running_run_is_not_done_and_a_killed_one_is_stopped(tmp_path: Path, capsys) -> None:
    write_status(tmp_path, status("running"))
    with RunLock(tmp_path):
        assert cli.main(["status", str(tmp_path)]) == 75
        assert capsys.readouterr().out.startswith("running at step 30")
    assert cli.main(["status", str(tmp_path)]) == 75
    assert capsys.readouterr().out.startswith("stopped at step 30")


def test_no_run_is_a_mistake(tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("x")
    for run in (tmp_path / "none", tmp_path, tmp_path / "file"):
        assert cli.main(["status", str(run)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"error: {run}: ")
        assert err.count("\n") == 1


def test_a_damaged_status_is_a_mistake(tmp_path: Path, capsys) -> None:
    (tmp_path / "status.json").write_text("{")
    assert cli.main(["status", str(tmp_path)]) == 2
    assert "not a status of a run" in capsys.readouterr().err


def test_what_lies_in_the_run_folder_is_told(tmp_path: Path, capsys) -> None:
    write_status(tmp_path, status("stopped"))
    assert cli.main(["status", str(tmp_path)]) == 75
    assert "There is no checkpoint." in capsys.readouterr().out
    for step in (9, 30):
        (tmp_path / "checkpoints" / f"step_{step:08d}").mkdir(parents=True)
    (tmp_path / "checkpoints" / ".step_00000040.tmp-1").mkdir()
    (tmp_path / "hang-rank1.txt").write_text("stacks")
    write_status(tmp_path, status("stopped").model_copy(update={"mirrored_step": 9}))
    assert cli.main(["status", str(tmp_path)]) == 75
    out = capsys.readouterr().out
    assert f"Newest checkpoint: {tmp_path}/checkpoints/step_00000030; the mirror has that of step 9\n" in out
    assert f"A process hung; its stacks: {tmp_path}/hang-rank1.txt\n" in out
