"""Chained versions, against a stand-in for the program `kaggle`."""

import json
import re
import sys
from pathlib import Path

import pytest

from launch.cli import run_command
from launch.kaggle import chain as module
from launch.kaggle import main
from launch.kaggle.chain import Chain, kernel_metadata
from launch.kaggle.settings import Settings
from pipeline.train.status import Status, write_status

from .kaggle_machine import cell_sources

SERVICE = Path(__file__).with_name("kaggle_service.py")
ARGUMENTS = ["--kernel", "me/depthrank", "--dataset", "me/depthrank-code", "--dataset", "me/web-shards"]


class Service:
    """The stand-in's state, and what it was told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script: list[dict] = []
        self.set_quota(30)

    def set_quota(self, hours: float) -> None:
        (self.folder / "quota.json").write_text(json.dumps(hours))

    def add(self, state: str | None = None, step: int = 0, *, polls: int = 1, stage: str = "COMPLETE", **facts) -> None:
        """What happens to the next version."""
        output = self.folder / f"output{len(self.script)}"
        (output / "runs" / "t4x2").mkdir(parents=True)
        (output / "report.html").write_text("x")
        if state is not None:
            status = Status(
                state=state, reason="x", step=step, total_steps=90, samples_seen=0, hours=1, next_command="python ..."
            )
            write_status(output / "runs" / "t4x2", status)
        self.script.append({"polls": polls, "stage": stage, "output": str(output), **facts})
        (self.folder / "script.json").write_text(json.dumps(self.script))

    @property
    def pushed(self) -> list[tuple[dict, str]]:
        """Metadata and first cell of each version."""
        folders = sorted(self.folder.glob("version_*"))
        cells = [cell_sources((folder / "notebook.ipynb").read_bytes())["checks"] for folder in folders]
        return [
            (json.loads((folder / "kernel-metadata.json").read_text()), cell)
            for folder, cell in zip(folders, cells, strict=True)
        ]

    @property
    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.folder / "calls.jsonl").read_text().splitlines()]


@pytest.fixture
def service(tmp_path, monkeypatch) -> Service:
    folder = tmp_path / "service"
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "kaggle"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{SERVICE}" "{folder}" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder / "bin"), prepend=":")
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)  # the service's pace is its script's
    return Service(folder)


def chain(tmp_path: Path, *more: str) -> int:
    return run_command(main, ["chain", *ARGUMENTS, "--out", str(tmp_path / "chain"), *more])


def test_three_versions_each_with_the_last_output(service, tmp_path, capsys) -> None:
    service.add("stopped", 30, polls=2)
    service.add("stopped", 60, unreachable=[0])
    service.add("finished", 90)
    assert chain(tmp_path, "train.batch_size=8") == 0
    sources = [metadata["kernel_sources"] for metadata, _ in service.pushed]
    assert sources == [[], ["me/depthrank"], ["me/depthrank"]]
    steps = [int(re.search(r"expect_step=(\d+)", cell)[1]) for _, cell in service.pushed]
    assert steps == [0, 30, 60]
    assert all('overrides=["train.batch_size=8"]' in cell for _, cell in service.pushed)
    metadata = service.pushed[0][0]
    assert metadata["dataset_sources"] == ["me/depthrank-code", "me/web-shards"]
    assert (metadata["machine_shape"], metadata["enable_gpu"], metadata["enable_internet"]) == (
        "NvidiaTeslaT4",
        True,
        False,
    )
    said = capsys.readouterr()
    assert "503 Server Error: Service Unavailable; trying again" in said.out
    assert "finished at step 90 of 90 (100%)" in said.out
    assert "kaggle kernels output me/depthrank -p t4x2-output" in said.out
    assert said.err == ""


def test_a_chain_that_is_started_again_waits_for_the_version_that_runs(service, tmp_path) -> None:
    service.add("stopped", 30)
    service.add("stopped", 60, polls=4)
    service.add("finished", 90)
    assert chain(tmp_path, "--max-versions", "1") == 75
    assert len(service.pushed) == 1
    assert chain(tmp_path, "--max-versions", "1") == 75
    assert chain(tmp_path) == 0
    assert [re.search(r"expect_step=(\d+)", cell)[1] for _, cell in service.pushed] == ["0", "30", "60"]


def test_versions_that_get_nowhere_end_the_chain(service, tmp_path, capsys) -> None:
    for _ in range(5):
        service.add("stopped", 30)
    assert chain(tmp_path) == 75
    assert len(service.pushed) == 3
    assert "2 versions in a row have come no further than step 30" in capsys.readouterr().out


def test_a_version_whose_training_was_killed_goes_on_from_its_newest_checkpoint(service, tmp_path, capsys) -> None:
    service.add("running", 37)  # nobody holds the lock, so it was killed
    for step in (20, 30):
        folder = service.folder / "output0" / "runs" / "t4x2" / "checkpoints" / f"step_{step:08d}"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(bytes(9))
    service.add("finished", 90)
    assert chain(tmp_path) == 0
    assert "was killed" in capsys.readouterr().out
    assert "expect_step=30," in service.pushed[1][1]
    assert not list((tmp_path / "chain").rglob("*.safetensors"))


def test_a_push_that_the_service_does_not_know_yet_is_waited_for(service, tmp_path, capsys) -> None:
    service.add("stopped", 30, unknown=[0, 1])
    service.add("finished", 90)
    assert chain(tmp_path) == 0
    assert len(service.pushed) == 2
    assert "does not know it yet" in capsys.readouterr().out


def test_a_name_is_not_taken_for_what_the_service_says(service, tmp_path) -> None:
    service.add("stopped", 30, unreachable=[1])
    service.add("finished", 90)
    named = ["chain", "--kernel", "me/error-404", *ARGUMENTS[2:], "--out", str(tmp_path / "chain")]
    assert run_command(main, [*named, "--max-versions", "1"]) == 75
    assert run_command(main, named) == 0
    assert [metadata["kernel_sources"] for metadata, _ in service.pushed] == [[], ["me/error-404"]]


def test_a_run_that_failed_ends_the_chain(service, tmp_path) -> None:
    service.add("failed", 30)
    assert chain(tmp_path) == 1
    assert len(service.pushed) == 1


def test_a_version_that_failed_is_told_and_goes_on_when_asked(service, tmp_path, capsys) -> None:
    service.add("stopped", 30)
    service.add(None, stage="ERROR", failure="Notebook Exceeded the Timeout")
    service.add("finished", 90)
    assert chain(tmp_path) == 2
    said = capsys.readouterr().err
    assert "me/depthrank: the latest version is error: Notebook Exceeded the Timeout" in said
    assert "kaggle kernels logs me/depthrank" in said
    assert chain(tmp_path) == 2
    assert len(service.pushed) == 2
    assert chain(tmp_path, "--after-failure", "--set", "expect_step=30") == 0
    metadata, cell = service.pushed[2]
    assert metadata["kernel_sources"] == ["me/depthrank"]
    assert "expect_step=30," in cell


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"refused": "Maximum batch GPU session count of 2 reached."}, "Maximum batch GPU session count of 2 reached."),
        ({"invalid": "['me/depthrank']"}, "not valid kernel sources"),
    ],
)
def test_a_refused_push_is_an_error_though_the_program_ends_with_0(service, tmp_path, capsys, facts, said) -> None:
    service.add("finished", 90, **facts)
    assert chain(tmp_path) == 2
    assert said in capsys.readouterr().err


def test_the_output_of_another_run_is_not_taken_for_this_one(service, tmp_path, capsys) -> None:
    service.add("stopped", 30)
    assert chain(tmp_path, "--set", "run=other") == 2
    assert "holds no runs/other/status.json" in capsys.readouterr().err


def test_the_quota_shortens_a_version_or_puts_it_off(service, tmp_path, capsys) -> None:
    service.add("finished", 90)
    service.set_quota(0.8)
    assert chain(tmp_path) == 75
    assert service.pushed == []
    assert "GPU quota: 0.8 h left until 2026-12-05" in capsys.readouterr().out
    service.set_quota(6.25)
    assert chain(tmp_path) == 0
    assert 'overrides=["session.max_hours=5.8"]' in service.pushed[0][1]


def test_without_the_program_it_says_how_to_get_it(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert chain(tmp_path) == 2
    assert "pip install kaggle" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--set", "run=../x"], "is no plain name"),
        (["--set", "runs=x"], "unknown setting 'runs'"),
        (["run=elsewhere"], "use run= in the first cell"),
        (["--poll-seconds", "1"], "must be 10 or more"),
        (["--source", "x"], "needs OWNER/SLUG"),
    ],
)
def test_mistakes(tmp_path, capsys, more, said) -> None:
    assert chain(tmp_path, *more) == 2
    assert said in capsys.readouterr().err


def test_the_template_is_what_is_pushed() -> None:
    template = json.loads((Path(module.__file__).parent / "kernel-metadata.json").read_text())
    attached = ("OWNER/depthrank-code", "OWNER/web-shards")
    assert template == kernel_metadata(Chain("OWNER/depthrank", attached, Settings()), with_own_output=False)
