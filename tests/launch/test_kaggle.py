"""What the notebook finds, checks, installs and refuses, and what is prepared for upload."""

import json
import re
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
import torchvision

from launch.cli import run_command
from launch.kaggle import cells, checks, main, training, wheels
from launch.kaggle.mounts import Attached, KagglePlace, look, newest_step
from launch.kaggle.notebook import code_cells, notebook_bytes
from launch.kaggle.settings import Settings
from launch.kaggle.space import will_write
from launch.kaggle.summary import next_steps
from launch.kaggle.upload import check_folder, prepare_code, prepare_shards
from model import DepthNet
from model.config import ModelConfig
from pipeline.data.store import ShardStore
from pipeline.train.config import RunConfig
from pipeline.train.status import Status
from shards.errors import ConfigError, RunError

from ..data.small_dataset import write_dataset
from .kaggle_machine import cell_sources

FOLDER = Path(checks.__file__).parent
T4 = "Tesla T4, 7.5, 15360"
P100 = "Tesla P100-PCIE-16GB, 6.0, 16384"
L4 = "NVIDIA L4, 8.9, 23034"


@pytest.fixture
def place(tmp_path, monkeypatch) -> KagglePlace:
    monkeypatch.setenv("DEPTHRANK_KAGGLE_ROOT", str(tmp_path / "kaggle"))
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    place = KagglePlace.here()
    place.input.mkdir(parents=True)
    return place


@pytest.fixture
def gpus(tmp_path, monkeypatch):
    """Puts an nvidia-smi on the path that lists these GPUs."""

    def put(*lines: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / "nvidia-smi"
        program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=":")

    return put


def make_run(folder: Path, *steps: int) -> Path:
    for step in steps:
        (folder / "checkpoints" / f"step_{step:08d}").mkdir(parents=True)
    return folder


def test_everything_is_found_in_both_layouts(place) -> None:
    old, new = place.input, place.input / "datasets" / "me"
    write_dataset(old / "web-shards", samples=3, val=1)
    write_dataset(new / "more-shards" / "nested", samples=3, val=1)
    runs = [
        make_run(old / "depthrank" / "runs" / "t4x2", 10, 30),
        make_run(place.input / "notebooks" / "me" / "depthrank" / "runs" / "t4x2", 40),
    ]
    (new / "code").mkdir()
    (new / "code" / "x-1-py3-none-any.whl").touch()
    (new / "code" / "tiny.yaml").touch()
    (old / "code" / "y-1-py3-none-any.whl" / "y-1.dist-info").mkdir(parents=True)
    (runs[0] / "config.yaml").touch()  # a run's own settings are no recipe
    (place.input / "loop").symlink_to(place.input)
    found = look(place.input)
    assert found.shards == [new / "more-shards" / "nested", old / "web-shards"]
    assert found.runs == runs
    assert [newest_step(run) for run in found.runs] == [30, 40]
    assert [path.name for path in found.wheels] == ["y-1-py3-none-any.whl", "x-1-py3-none-any.whl"]
    assert found.named("tiny.yaml") == [new / "code" / "tiny.yaml"]
    assert found.named("config.yaml") == []
    assert not found.is_cut


def test_the_search_is_bounded_in_depth_and_in_folders(place, monkeypatch) -> None:
    deep = place.input / "datasets" / "me" / "x" / "1" / "2" / "3"
    make_run(deep / "reached", 10)
    make_run(deep / "a" / "too_deep", 10)
    assert look(place.input).runs == []
    make_run(deep, 10)
    assert look(place.input).runs == [deep]
    monkeypatch.setattr("launch.kaggle.mounts.MAX_FOLDERS", 3)
    assert look(place.input).is_cut
    assert look(place.input / "absent") == Attached()


@pytest.mark.parametrize(
    ("lines", "precision", "why"),
    [
        ([T4, T4], "fp16", "bf16, which begins at 8.0, is only emulated there"),
        ([L4, T4], "fp16", "Tesla T4 has compute capability 7.5"),
        ([L4], None, "compute capability 8.9"),
        ([], "fp32", "no GPU"),
    ],
)
def test_the_precision_and_its_reason(gpus, lines, precision, why) -> None:
    gpus(*lines)
    chosen, reason = checks.choose_precision(checks.find_gpus())
    assert chosen == precision
    assert why in reason


def test_a_p100_and_no_gpu_are_refused_with_the_reason(gpus) -> None:
    gpus(P100)
    with pytest.raises(
        ConfigError, match=r"P100-PCIE-16GB has compute capability 6\.0.* no code for anything below 7\.0"
    ):
        checks.require_usable(checks.find_gpus())
    with pytest.raises(ConfigError, match=r"GPU T4 x2.*weekly GPU quota"):
        checks.require_usable([])
    checks.require_usable([], may_be_cpu=True)
    gpus("No devices were found")
    with pytest.raises(ConfigError, match="says 'No devices were found'"):
        checks.find_gpus()


def test_the_room_is_compared_with_kaggle_s_limit_and_with_the_disk(tmp_path, monkeypatch) -> None:
    (tmp_path / "old.bin").write_bytes(bytes(3000))
    monkeypatch.setattr(checks, "OUTPUT_BYTES", 10_000)  # the disk has far more
    usage = checks.usage_of(tmp_path)
    assert usage == checks.Usage(3000, 1, 7000)
    assert checks.require_room(usage, needed_bytes=7000, needed_files=10, folder=tmp_path) == []
    with pytest.raises(RunError, match=r"the run may write .* are left.*checkpoint\.keep_last=2"):
        checks.require_room(usage, needed_bytes=7001, needed_files=10, folder=tmp_path)
    assert "may come to 601 files" in checks.require_room(usage, needed_bytes=1, needed_files=600, folder=tmp_path)[0]


def test_what_a_run_will_write() -> None:
    settings = {
        "run": "x",
        "data": {"train": "x"},
        "model": {"encoder": "resnet18", "encoder_width": 8, "decoder_channels": 8},
        "train": {"steps": 100},
        "checkpoint": {"every_steps": 10},
    }
    some, files = will_write(RunConfig.model_validate(settings), samples=20)
    settings["checkpoint"] = {"every_steps": 10, "keep_every_steps": 10}
    more, more_files = will_write(RunConfig.model_validate(settings), samples=20)
    assert more_files - files == 60  # ten checkpoints of six files
    assert (
        10 * 12 * 150_000 < more - some < 10 * 12 * 250_000
    )  # three numbers of four bytes for each of 0.19 million weights


def test_the_first_cell_says_what_there_is(place, gpus, capsys) -> None:
    gpus(T4, T4)
    write_dataset(place.input / "web-shards", samples=3, val=1)
    cells.check({"run": "mine"})
    said = capsys.readouterr().out
    for words in ("Batch session of Kaggle", "gpu 1     Tesla T4, compute capability 7.5, 15 GiB", "precision fp16 ("):
        assert words in said
    assert "attached  1 dataset(s) of shards, 0 earlier run(s), 0 wheel(s); searched in " in said
    assert f"\n          {place.input / 'web-shards'}\n" in said


def test_a_cell_s_mistake_is_a_message_without_a_traceback(place, gpus) -> None:
    gpus(P100)
    with pytest.raises(SystemExit, match=r"^error: Tesla P100") as caught:
        cells.check({})
    assert caught.value.__suppress_context__
    with pytest.raises(SystemExit, match="error: unknown setting 'resume'"):
        cells.check({"resume": 1})
    for setting in ({"expect_step": "30"}, {"require_gpu": "False"}, {"run": 7}, {"shards": None}):
        with pytest.raises(SystemExit, match=rf"error: {next(iter(setting))}: .*: give it as in "):
            cells.check(setting)
    gpus(T4)
    session = cells.check({})
    for cell in (session.find_data, session.train):
        with pytest.raises(SystemExit, match=r"error: run the (second|third) cell first"):
            cell()
    with pytest.raises(SystemExit, match="no depthrank wheel is attached"):
        session.install()


@pytest.fixture
def session(place, gpus, monkeypatch):
    """A session after its second cell."""
    gpus(T4, T4)
    write_dataset(place.input / "web-shards", samples=3, val=1)
    (place.input / "code").mkdir()
    (place.input / "code" / "tiny.yaml").write_text("run: x\ndata: {train: x}\ntrain: {steps: 10, batch_size: 2}\n")

    def begin(**settings) -> cells.NotebookSession:
        session = cells.check({"recipe": "tiny.yaml", **settings})
        monkeypatch.setattr(session, "_site", place.scratch)
        return session

    return begin


def test_the_third_cell_hands_on_what_it_found(session, place, capsys) -> None:
    first = make_run(place.input / "notebooks" / "me" / "run" / "runs" / "mine", 10)
    other = make_run(place.input / "older" / "runs" / "other", 90)
    begun = session(run="mine", expect_step=10, overrides=["train.batch_size=4"])
    begun.find_data()
    config = begun._config()
    assert config.run == str(place.working / "runs" / "mine")
    assert config.data.train == config.data.val == str(place.input / "web-shards")
    assert config.checkpoint.search == (str(first), str(other))
    assert (config.train.precision, config.train.batch_size) == ("fp16", 4)
    said = capsys.readouterr().out
    assert "train: 3 samples" in said
    assert "start     step 10\n" in said
    assert f"note: {other} is another run than 'mine'" in said


def test_the_third_cell_says_what_is_missing_or_ambiguous(session, place) -> None:
    with pytest.raises(
        SystemExit, match=r"recipe='absent\.yaml' is neither a file nor attached \(attached: tiny\.yaml\)"
    ):
        session(recipe="absent.yaml").find_data()
    with pytest.raises(SystemExit, match=r"encoder_weights='x\.safetensors' is attached 0 times"):
        session(encoder_weights="x.safetensors").find_data()
    with pytest.raises(SystemExit, match=r"train\.stepz.*did you mean"):
        session(overrides=["train.stepz=4"]).find_data()
    write_dataset(place.input / "datasets" / "me" / "second", samples=3, val=1)
    with pytest.raises(SystemExit, match=r"several datasets of shards.*shards= in the first cell"):
        session().find_data()
    session(shards="me/second").find_data()
    with pytest.raises(SystemExit, match="is part of none of the attached"):
        session(shards="third").find_data()


def test_the_command_fits_the_gpus(tmp_path) -> None:
    command = training.train_command(2, tmp_path, ["--config", "x.yaml"])
    file = str(tmp_path / "launch" / "accelerate" / "two_t4.yaml")
    assert command[1:] == [
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        file,
        "-m",
        "launch.train",
        "--config",
        "x.yaml",
    ]
    assert "cpu.yaml" in training.train_command(0, tmp_path, [])[4]
    assert training.train_command(4, tmp_path, [])[5:7] == ["--num_processes=4", "--gpu_ids=all"]
    for name in training.ACCELERATE_FILES.values():
        assert (FOLDER.parent / "accelerate" / name).is_file()


def test_what_the_training_says_is_repeated_and_its_code_returned(tmp_path, capsys) -> None:
    program = (
        "import os, sys; print('said'); print('wrong', file=sys.stderr); print(os.environ['PYTHONPATH']); sys.exit(3)"
    )
    command = [sys.executable, "-c", program]
    assert training.run_to_end(command, site=tmp_path / "site", cwd=tmp_path, run_dir=tmp_path / "run") == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("$ ")
    assert {"said", "wrong"} <= set(lines)
    assert any(line.startswith(str(tmp_path / "site")) for line in lines[1:])


def make_wheel(folder: Path, name: str, version: str, *requires: str, unpacked: bool = False) -> Path:
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(
        f"Requires-Dist: {r}\n" for r in requires
    )
    files = {
        f"{name}.py": f"version = '{version}'\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
    }
    target = folder / f"{name}-{version}-py3-none-any.whl"
    if unpacked:
        for path, text in files.items():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_text(text)
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return target


def test_only_what_the_image_lacks_is_installed_and_never_torch(tmp_path, capsys) -> None:
    program = make_wheel(
        tmp_path,
        "depthrank",
        "9.9",
        "torch>=2.0",
        "tqdm",
        "tinydep>=2",
        'absent; extra == "x"',
        "absent2; python_version < '3'",
    )
    needed = make_wheel(tmp_path, "tinydep", "2.1", "numpy", "tinier", unpacked=True)
    tinier = make_wheel(tmp_path, "tinier", "0.1")
    torch = make_wheel(tmp_path, "torch", "99.0")
    site = wheels.install([program, needed, tinier, torch], tmp_path / "scratch")
    assert sorted(path.name for path in site.glob("*.py")) == ["depthrank.py", "tinier.py", "tinydep.py"]
    said = capsys.readouterr().out
    assert "installed tinydep-2.1-py3-none-any.whl, which the image lacks" in said
    assert re.search(r"torch \S+ and all other packages are the image's", said)
    with pytest.raises(ConfigError, match=r"the image's packages are too old.*torch>=98"):
        wheels.install([make_wheel(tmp_path / "new", "depthrank", "10", "torch>=98"), torch], tmp_path / "scratch")


def test_shards_are_prepared_as_links_and_read_there(tmp_path, capsys) -> None:
    write_dataset(tmp_path / "shards", samples=9, val=3, shard_bytes=100_000)
    (tmp_path / "shards" / "contact_sheet.jpg").touch()  # not of the dataset
    arguments = ["shards", str(tmp_path / "shards"), "--dataset", "me/web-shards", "--out", str(tmp_path / "upload")]
    assert run_command(main, arguments) == 0
    said = capsys.readouterr().out
    assert "9 train, 3 val samples" in said
    assert "documented neither way" in said and "about 48 files" in said
    assert f"kaggle datasets create -p {tmp_path / 'upload'}" in said
    names = {path.name for path in (tmp_path / "upload").iterdir()}
    assert {"manifest.json", "train.index", "val.index", "dataset-metadata.json", "train-000000.tar"} <= names
    assert "contact_sheet.jpg" not in names
    tar = tmp_path / "upload" / "train-000000.tar"
    assert tar.samefile(tmp_path / "shards" / "train-000000.tar")
    metadata = json.loads((tmp_path / "upload" / "dataset-metadata.json").read_text())
    assert (metadata["id"], metadata["title"], metadata["licenses"]) == (
        "me/web-shards",
        "web-shards",
        [{"name": "unknown"}],
    )
    with tarfile.open(tar) as archive:
        archive.extractall(tmp_path / "upload" / "train-000000", filter="data")
    tar.unlink()
    assert ShardStore(str(tmp_path / "upload"), "train").read(0).key == "s0000"
    assert run_command(main, arguments) == 2
    assert "is there already and not empty" in capsys.readouterr().err


def test_what_kaggle_would_not_take_is_refused(tmp_path) -> None:
    write_dataset(tmp_path / "shards", samples=60, val=3, shard_bytes=5_000)
    with pytest.raises(ConfigError, match=r"files, and Kaggle takes 50 .*shards\.shard_bytes="):
        prepare_shards(tmp_path / "upload", "me/web-shards", tmp_path / "shards")
    assert not (tmp_path / "upload").exists()
    write_dataset(tmp_path / "few", samples=3, val=1)
    with pytest.raises(ConfigError, match="needs OWNER/SLUG"):
        prepare_shards(tmp_path / "upload", "me/w", tmp_path / "few")
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    make_wheel(folder, "fine", "1")
    (folder / "weights.pth").touch()
    (folder / "fine.tar").touch()
    with zipfile.ZipFile(folder / "checkpoint.bin", "w") as archive:
        archive.writestr("data.pkl", "x")
    with pytest.raises(ConfigError) as caught:
        check_folder(folder)
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[1].split(" is ")[0] for line in lines] == ["inner/", "checkpoint.bin", "weights.pth"]


def test_what_is_missing_is_told_before_the_folder_is_begun(tmp_path) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.touch()
    for more in ({"files": [tmp_path / "absent.bin"]}, {"wheels": [str(tmp_path / "absent.whl")]}):
        with pytest.raises(ConfigError, match=r"absent\.\w+: no such file"):
            prepare_code(tmp_path / "code", "me/depthrank-code", recipes=[recipe], **more)
    assert not (tmp_path / "code").exists()


def test_the_step_to_expect_is_that_of_the_newest_checkpoint(tmp_path) -> None:
    status = Status(
        state="stopped", reason="was killed", step=37, total_steps=90, samples_seen=0, hours=1, next_command="x"
    )
    assert "expect_step" not in next_steps(status, tmp_path)
    assert "Set expect_step=30 in" in next_steps(status, make_run(tmp_path, 20, 30))


def test_the_notebook_in_the_repository_is_the_one_that_is_made() -> None:
    assert (FOLDER / "depthrank.ipynb").read_bytes() == notebook_bytes(Settings()), (
        "run: python -m launch.kaggle notebook --out launch/kaggle/depthrank.ipynb"
    )


def test_the_notebook_is_nbformat_4_5() -> None:
    notebook = json.loads(notebook_bytes(Settings()))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    names = [cell["id"] for cell in notebook["cells"]]
    assert len(set(names)) == len(names) and all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in names)
    for cell in notebook["cells"]:
        expected = {"cell_type", "id", "metadata", "source"}
        assert cell.keys() == expected | ({"execution_count", "outputs"} if cell["cell_type"] == "code" else set())
        assert all(isinstance(line, str) for line in cell["source"])
    assert list(cell_sources(notebook_bytes(Settings()))) == ["checks", "install", "shards", "train", "summary"]


def test_the_first_cell_holds_the_settings_it_was_made_with() -> None:
    settings = Settings(run="mine", overrides=('model.encoder_weights="a b"', "x=1"), expect_step=7, require_gpu=False)
    text = code_cells(settings)[0].partition("\nimport ")[0]
    namespace: dict = {}
    exec(text, namespace)
    assert Settings.given(**namespace["SETTINGS"]) == settings


def test_the_stop_button_lets_the_run_save(tmp_path) -> None:
    waits = (
        "import pathlib, time; print('training', flush=True)\n"
        "while not pathlib.Path('run/STOP').exists(): time.sleep(0.02)\n"
        "print('saved')"
    )
    program = (
        "import sys; from pathlib import Path; from launch.kaggle.training import run_to_end\n"
        f"here = Path({str(tmp_path)!r})\n"
        f"sys.exit(run_to_end([sys.executable, '-c', {waits!r}], site=here, cwd=here, run_dir=here / 'run'))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "training\n":
                process.send_signal(signal.SIGINT)
                break
        rest = process.stdout.read()
    assert process.returncode == 0
    assert "stopping: the run ends at its next step and saves" in rest
    assert rest.endswith("saved\n")


@pytest.mark.slow
def test_imagenet_weights_are_taken_along_in_a_form_that_kaggle_keeps(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    given = torchvision.models.resnet18().state_dict()
    torch.save(given, cache / weights.url.rpartition("/")[2])  # as if it had been downloaded before
    recipe = tmp_path / "tiny.yaml"
    recipe.touch()
    prepare_code(tmp_path / "code", "me/depthrank-code", recipes=[recipe], wheels=[], encoder_weights="resnet18")
    path = tmp_path / "code" / "resnet18-imagenet.safetensors"
    net = DepthNet.from_config(ModelConfig(encoder="resnet18", decoder_channels=8, encoder_weights=str(path)))
    assert torch.equal(net.encoder.state_dict()["layer1.0.conv1.weight"], given["layer1.0.conv1.weight"])
