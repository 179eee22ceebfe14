from pathlib import Path

import pytest

from pipeline.train import carry_logs as module
from pipeline.train.carry_logs import carry_logs

LOGS = {
    "metrics.jsonl": b'{"step": 1}\n',
    "samples.jsonl": b'{"step": 1, "samples": []}\n',
    "tb/events.out.tfevents.1.session0001.7": b"events",
}


@pytest.fixture
def origin(tmp_path):
    """A run folder with a checkpoint and logs, read-only as an input of Kaggle is."""
    root = tmp_path / "input" / "demo"
    for name, data in {**LOGS, "tb/other.txt": b"no event file", "config.yaml": b"run: x"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
        (root / name).chmod(0o444)
    (root / "checkpoints" / "step_00000001").mkdir(parents=True)
    return root


@pytest.fixture
def run_dir(tmp_path):
    path = tmp_path / "runs" / "demo"
    path.mkdir(parents=True)
    return path


def carried(origin: Path, run_dir: Path) -> dict[str, bytes]:
    carry_logs(origin / "checkpoints" / "step_00000001", run_dir)
    return {str(path.relative_to(run_dir)): path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}


def test_the_logs_of_another_run_folder_are_carried_over_and_can_be_continued(origin, run_dir):
    assert carried(origin, run_dir) == LOGS
    for name in LOGS:
        with (run_dir / name).open("ab") as file:
            file.write(b"more\n")


def test_a_run_that_has_metrics_keeps_its_own(origin, run_dir):
    (run_dir / "metrics.jsonl").write_bytes(b"mine")
    assert carried(origin, run_dir) == {"metrics.jsonl": b"mine"}


def test_a_run_is_not_copied_onto_itself(origin):
    before = {path: path.stat().st_mtime_ns for path in origin.rglob("*")}
    (origin / "metrics.jsonl").unlink()
    before.pop(origin / "metrics.jsonl")
    carry_logs(origin / "checkpoints" / "step_00000001", origin)
    assert {path: path.stat().st_mtime_ns for path in origin.rglob("*")}.keys() == before.keys()


def test_links_folders_and_huge_files_are_named_and_left(origin, run_dir, tmp_path, monkeypatch, caplog):
    (tmp_path / "secret").write_text("password")
    (origin / "metrics.jsonl").unlink()
    (origin / "metrics.jsonl").symlink_to(tmp_path / "secret")
    (origin / "tb" / "events.out.tfevents.2").mkdir()
    monkeypatch.setattr(module, "FILE_LIMIT_BYTES", 10)
    assert carried(origin, run_dir) == {"tb/events.out.tfevents.1.session0001.7": b"events"}
    assert "metrics.jsonl: not carried over (not a plain file)" in caplog.text
    assert "events.out.tfevents.2: not carried over (not a plain file)" in caplog.text
    assert "samples.jsonl: not carried over (27 bytes are more than is carried over)" in caplog.text


def test_a_folder_of_events_that_is_a_link_is_not_followed(origin, run_dir, tmp_path):
    (origin / "tb").rename(tmp_path / "tb")
    (origin / "tb").symlink_to(tmp_path / "tb")
    assert carried(origin, run_dir) == {name: LOGS[name] for name in ("metrics.jsonl", "samples.jsonl")}


def test_a_run_folder_that_cannot_be_written_costs_a_warning(origin, tmp_path, caplog):
    run_dir = tmp_path / "blocked"
    run_dir.write_text("in the way")
    carry_logs(origin / "checkpoints" / "step_00000001", run_dir)
    assert caplog.text.count("not carried over") == 3
    assert run_dir.read_text() == "in the way"
