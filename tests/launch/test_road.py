"""The commands as a user types them, one after the other, and what they say to a user's mistakes."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from launch import evaluate, predict, shards, status, train
from launch.cli import run_command
from shards.sources.config import SyntheticSourceConfig
from shards.sources.synthetic import test_scene as unseen_scene

RECIPE = """
out: {root}/shards
run: {root}/run
source: {{kind: synthetic, train: 10, val: 4, height_px: 48, width_px: 64}}
shards: {{workers: 1, shard_bytes: 100000, match: {{align: false}}, pairs: {{num_pairs: 50}}}}
data: {{train: "{root}/shards", val: "{root}/shards", num_pairs: 50, num_workers: 0}}
model: {{encoder: resnet18, encoder_width: 8, decoder_channels: 8}}
optim: {{lr: 1e-3, encoder_lr_ratio: 1.0}}
train: {{steps: 4, batch_size: 2, size: 32, threads: 1}}
checkpoint: {{every_steps: 2}}
monitor: {{log_every_steps: 2, eval_every_steps: 2, tensorboard: false}}
"""


@pytest.fixture(scope="module")
def road(tmp_path_factory) -> Path:
    """A folder with a recipe, its shards and its finished run."""
    root = tmp_path_factory.mktemp("road")
    (root / "recipe.yaml").write_text(RECIPE.format(root=root))
    assert run_command(shards.main, ["--config", f"{root}/recipe.yaml"]) == 0
    assert run_command(train.main, ["--config", f"{root}/recipe.yaml"]) == 0
    return root


@pytest.fixture
def copy(road, tmp_path) -> Path:
    """The same, to be damaged."""
    root = tmp_path / "copy"
    shutil.copytree(road, root)
    (root / "recipe.yaml").write_text(RECIPE.format(root=root))
    return root


def photographs(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    config = SyntheticSourceConfig(kind="synthetic", height_px=96, width_px=128)
    for number in range(count):
        scene = unseen_scene(config, number)
        Image.fromarray(scene.left).save(folder / f"view{number}_L.jpg", quality=95)
        Image.fromarray(scene.right).save(folder / f"view{number}_R.jpg", quality=95)
    return sorted(folder.iterdir())


def fails(capsys, command, *argv: object) -> str:
    """Run a command that must end with code 2, and return its one message."""
    capsys.readouterr()
    assert run_command(command.main, [str(argument) for argument in argv]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "Traceback" not in said
    return said


def test_a_finished_run_can_be_measured_and_used(road, tmp_path, capsys):
    assert run_command(status.main, [f"{road}/run"]) == 0
    out = tmp_path / "evaluation.json"
    data = [f"shards={road}/shards", "synthetic=2"]
    assert run_command(evaluate.main, ["--checkpoint", f"{road}/run", "--out", str(out), "--data", *data]) == 0
    last = capsys.readouterr().out.strip().rpartition("\n")[2]
    assert json.loads(last) == json.loads(out.read_text())
    pictures = photographs(tmp_path / "pictures", 1)
    target = str(tmp_path / "depth")
    assert run_command(predict.main, ["--checkpoint", f"{road}/run", *map(str, pictures), "--out", target]) == 0
    with Image.open(next(Path(target).rglob("*inverse_depth.png"))) as image:
        assert image.size == (128, 96)
        assert image.mode == "I;16"


def test_a_finished_run_started_again_says_so(road, caplog):
    before = (road / "run" / "model.safetensors").stat().st_mtime_ns
    with caplog.at_level("INFO", logger="depthrank"):
        assert run_command(train.main, ["--config", f"{road}/recipe.yaml"]) == 0
    assert "is finished after 4 steps" in caplog.text
    assert (road / "run" / "model.safetensors").stat().st_mtime_ns == before


def test_the_plan_writes_nothing(road, capsys):
    arguments = ["--config", f"{road}/recipe.yaml", f"run={road}/planned", "session.max_hours=1", "--dry-run"]
    assert run_command(train.main, arguments) == 0
    said = capsys.readouterr().out
    assert "4 steps" in said
    assert "session" in said
    assert not (road / "planned").exists()


def test_a_missing_folder_and_one_without_pairs(tmp_path, capsys):
    folder = tmp_path / "pictures"
    arguments = ["source.kind=folder", f"source.path={folder}", f"out={tmp_path}/out"]
    assert str(folder) in fails(capsys, shards, *arguments)
    photographs(folder, 1)[0].unlink()
    assert "no left/right pairs in" in fails(capsys, shards, *arguments)


def test_a_truncated_picture_among_good_ones_is_named_and_the_rest_packed(tmp_path, capsys):
    pictures = photographs(tmp_path / "pictures", 3)
    data = pictures[2].read_bytes()
    pictures[2].write_bytes(data[: len(data) // 2])
    arguments = ["source.kind=folder", f"source.path={tmp_path}/pictures", "source.min_side_px=64"]
    settings = ["source.eyes=as_given", f"out={tmp_path}/out", "shards.workers=1"]
    assert run_command(shards.main, [*arguments, *settings]) == 0
    said = capsys.readouterr().out
    assert "unreadable" in said
    assert pictures[2].name in said
    rejects = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    assert [reject["name"] for reject in rejects if reject["reason"] == "unreadable"] == [pictures[2].name]


def test_every_mistake_in_the_settings_at_once(road, capsys):
    recipe = road / "typo.yaml"
    recipe.write_text((road / "recipe.yaml").read_text().replace("batch_size", "batch_sise"))
    said = fails(capsys, train, "--config", recipe, "optim.lr=fast")
    assert "did you mean 'train.batch_size'" in said
    assert "typo.yaml:" in said
    assert "optim.lr" in said


def test_a_flipped_byte_in_a_shard_is_found_and_the_shard_named(copy, capsys):
    shard = sorted((copy / "shards").glob("train-*.tar"))[0]
    data = bytearray(shard.read_bytes())
    data[700] ^= 1
    shard.write_bytes(data)
    said = fails(capsys, train, "--config", copy / "recipe.yaml", f"run={copy}/again", "train.steps=20")
    assert shard.name in said


def test_a_damaged_newest_checkpoint_is_refused_by_name_and_the_one_before_used(copy, caplog):
    (copy / "run" / "model.safetensors").unlink()  # as if the run had not finished
    newest = copy / "run" / "checkpoints" / "step_00000004" / "model.safetensors"
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    with caplog.at_level("INFO", logger="depthrank"):
        assert run_command(train.main, ["--config", f"{copy}/recipe.yaml"]) == 0
    assert "step_00000004" in caplog.text
    assert "step_00000002" in caplog.text
    assert (copy / "run" / "model.safetensors").is_file()


def test_another_config_for_the_same_run_is_refused_with_the_keys(copy, capsys):
    (copy / "run" / "model.safetensors").unlink()
    said = fails(capsys, train, "--config", copy / "recipe.yaml", "optim.lr=5e-4", "train.seed=1")
    assert "optim.lr" in said
    assert "train.seed" in said
