import getpass
import json
import re
import shutil
import socket
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from launch import export, shards, train
from launch.cli import run_command
from model import DepthNet, ModelConfig
from model.card import Training
from model.onnx_export import LOWEST_TORCH
from pipeline.eval.export_folder import ExportFolder, require_export_folder
from pipeline.train.run_facts import read_training
from shards.errors import RunError

RECIPE = """
out: {root}/shards
run: {root}/run
source: {{kind: synthetic, train: 6, val: 4, height_px: 48, width_px: 64}}
shards: {{workers: 1, shard_bytes: 100000, match: {{align: false}}, pairs: {{num_pairs: 50}}}}
data: {{train: "{root}/shards", val: "{root}/shards", num_pairs: 50, num_workers: 0}}
model: {{encoder: resnet18, encoder_width: 8, decoder_channels: 8}}
optim: {{lr: 1e-3, encoder_lr_ratio: 1.0}}
train: {{steps: 4, batch_size: 2, size: 32, threads: 1}}
checkpoint: {{every_steps: 2}}
monitor: {{log_every_steps: 2, eval_every_steps: 2, tensorboard: false}}
"""
PLAIN = ["README.md", "config.json", "model.safetensors"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with shards and the finished run of a few steps on them."""
    root = tmp_path_factory.mktemp("private-place")
    (root / "recipe.yaml").write_text(RECIPE.format(root=root))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        for command in (shards, train):
            assert run_command(command.main, ["--config", f"{root}/recipe.yaml"]) == 0
    return root


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A network of which nothing but the network is known."""
    folder = tmp_path_factory.mktemp("saved")
    DepthNet.from_config(ModelConfig(encoder="resnet18", encoder_width=8, decoder_channels=8)).save_pretrained(folder)
    return folder


def run_export(*arguments: object) -> int:
    return run_command(export.main, [str(argument) for argument in arguments])


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def snippets(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


def photo(folder) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.jpg")


def assert_nothing_private(folder, *places) -> None:
    # A short name of a machine or user can stand in any weights by chance.
    names = {name for name in (socket.gethostname(), getpass.getuser()) if len(name) > 5}
    secrets = {str(place) for place in places} | {"private-place", "recipe.yaml"} | names
    for path in folder.iterdir():
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret.encode() in content], path.name


def test_a_run_becomes_a_folder_whose_card_says_what_the_run_recorded(root, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    assert run_export("--checkpoint", root / "run", "--out", out, "--license", "mit") == 0
    printed = capsys.readouterr().out
    assert names(out) == PLAIN
    assert all(name in printed for name in PLAIN)
    assert (out / "model.safetensors").read_bytes() == (root / "run" / "model.safetensors").read_bytes()

    card = (out / "README.md").read_text()
    metrics = json.loads((root / "run" / "metrics.json").read_text())
    manifest = json.loads((root / "shards" / "manifest.json").read_text())
    samples = manifest["splits"]["train"]["samples"]
    assert f"| dataset | `shards`, {samples:,} samples, fingerprint `{manifest['fingerprint']}` |" in card
    assert f"| {metrics['latest']['val/whdr']:.2%}".replace("%", " %") in card
    assert "| length | 4 steps, 8 samples seen |" in card
    assert "`2 pictures of 32 x 32 pixels`" in card
    assert "| hardware | `CPU` |" in card
    assert_nothing_private(out, root, tmp_path)

    photo(out)
    monkeypatch.chdir(out)
    (code,) = snippets(card)
    scope: dict = {}
    exec(code, scope)
    assert scope["inverse_depth"].shape == (50, 70)


def test_a_checkpoint_tells_of_its_own_step_only(root, tmp_path):
    checkpoint = root / "run" / "checkpoints" / "step_00000002"
    assert run_export("--checkpoint", checkpoint, "--out", tmp_path / "out") == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "The weights are those of step 2." in card
    assert "step 4" not in card
    assert 'license: "unknown"' in card


def test_without_its_checkpoints_a_run_still_knows_its_settings(root, tmp_path):
    shutil.copytree(root / "run", tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    assert run_export("--checkpoint", tmp_path / "run", "--out", tmp_path / "out") == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| dataset | `shards` |" in card
    assert "| length | 4 steps, 8 samples seen |" in card


def test_figures_of_another_step_are_not_told(root, tmp_path):
    shutil.copytree(root / "run", tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    (tmp_path / "run" / "status.json").write_text(json.dumps(status | {"step": 9, "state": "running"}))
    assert run_export("--checkpoint", tmp_path / "run", "--out", tmp_path / "out") == 0
    assert "dataset" not in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("name", ["metrics.json", "env.json", "config.yaml", "status.json"])
@pytest.mark.parametrize(
    "content", ["", "[" * 2000, '{"step": "x", "latest": 3, "device": {}, "packages": []}', "a: &a [*a]"]
)
def test_damaged_records_are_not_told_and_end_nothing(root, tmp_path, name, content):
    shutil.copytree(root / "run", tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    (tmp_path / "run" / name).write_text(content)
    assert run_export("--checkpoint", tmp_path / "run", "--out", tmp_path / "out") == 0
    assert names(tmp_path / "out") == PLAIN


def test_of_a_mere_network_nothing_is_invented(saved, tmp_path, capsys):
    assert run_export("--checkpoint", saved, "--out", tmp_path / "out") == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Nothing is recorded about how these weights were made." in card
    assert "Nobody has stated a licence" in card
    assert "--license" in capsys.readouterr().out


def test_of_a_single_file_nothing_is_known(root):
    assert read_training(root / "recipe.yaml") == Training()


def test_an_earlier_export_is_replaced_whole_and_a_clone_stays_one(saved, root, tmp_path, capsys):
    out = tmp_path / "out"
    (out / ".git").mkdir(parents=True)
    (out / ".git" / "HEAD").write_text("x")
    assert run_export("--checkpoint", saved, "--out", out) == 0
    (out / "model.onnx").write_text("of the earlier weights")
    capsys.readouterr()
    assert run_export("--checkpoint", root / "run", "--out", out) == 0
    assert "replaces the earlier export" in capsys.readouterr().err
    assert names(out) == [".git", *PLAIN]
    assert (out / ".git" / "HEAD").read_text() == "x"
    assert DepthNet.from_pretrained(out).size_hw == (32, 32)


@pytest.mark.parametrize("found", ["notes.txt", "README.md", "config.json", "model.onnx/file", "model.safetensors"])
def test_a_folder_with_other_things_is_refused_and_left_alone(saved, tmp_path, capsys, found):
    path = tmp_path / "out" / found
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    assert run_export("--checkpoint", saved, "--out", tmp_path / "out") == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {tmp_path}/out: holds ")
    assert "choose another folder with --out" in printed.err
    assert [p.read_text() for p in (tmp_path / "out").rglob("*") if p.is_file()] == ["mine"]


def test_the_run_s_own_folder_and_a_file_are_refused(root, saved, capsys):
    assert run_export("--checkpoint", root / "run", "--out", root / "run") == 2
    assert "holds other things" in capsys.readouterr().err
    assert run_export("--checkpoint", saved, "--out", root / "recipe.yaml") == 2
    assert "is a file" in capsys.readouterr().err
    assert run_export("--checkpoint", saved, "--out", root / "recipe.yaml" / "below") == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("stage", range(5))
def test_an_interrupted_export_is_no_network_and_can_be_repeated(saved, tmp_path, stage):
    """After a kill between any two of the last renames."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert run_export("--checkpoint", saved, "--out", whole) == 0
    assert run_export("--checkpoint", saved, "--out", out) == 0
    order = ["README.md", "model.safetensors", "model.onnx", "config.json"]
    (out / "config.json").unlink()
    for name in order[stage:]:
        (out / name).unlink(missing_ok=True)
    (out / ".export.part").mkdir()
    (out / ".export.part" / "model.safetensors").write_text("half")
    with pytest.raises(ValueError, match="holds no network"):
        DepthNet.from_pretrained(out)
    assert run_export("--checkpoint", saved, "--out", out) == 0
    assert {name: (out / name).read_bytes() for name in names(out)} == {
        name: (whole / name).read_bytes() for name in names(whole)
    }


def test_what_fails_on_the_way_leaves_the_earlier_export_or_nothing(saved, tmp_path):
    def fail(out, error: Exception) -> None:
        with ExportFolder(out) as part:
            (part / "README.md").write_text("half")
            raise error

    with pytest.raises(KeyError):
        fail(tmp_path / "new", KeyError("x"))
    assert not (tmp_path / "new").exists()
    assert run_export("--checkpoint", saved, "--out", tmp_path / "out") == 0
    before = {name: (tmp_path / "out" / name).read_bytes() for name in PLAIN}
    with pytest.raises(RunError, match="No space left"):
        fail(tmp_path / "out", OSError(28, "No space left on device"))
    assert {name: (tmp_path / "out" / name).read_bytes() for name in names(tmp_path / "out")} == before
    assert require_export_folder(tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "/nowhere"], "/nowhere: no such folder"),
        (["--checkpoint", "{saved}", "--license", "My own!"], "--license: 'My own!' is no identifier"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(saved, tmp_path, capsys, arguments, message):
    filled = [argument.format(saved=saved) for argument in arguments]
    assert run_export(*filled, "--out", tmp_path / "out") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ") and message in printed.err
    assert not (tmp_path / "out").exists()


def test_without_the_extra_it_is_named_and_nothing_written(saved, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert run_export("--checkpoint", saved, "--out", tmp_path / "out", "--onnx") == 2
    assert 'pip install "depthrank[onnx]"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(
    tuple(int(part) for part in torch.__version__.split(".")[:2]) < LOWEST_TORCH,
    reason="the exporter of this torch is too old",
)
def test_the_onnx_file_computes_what_the_network_does_at_any_size(root, tmp_path, capsys, monkeypatch):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    out = tmp_path / "out"
    assert run_export("--checkpoint", root / "run", "--out", out, "--onnx") == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  ") and " x " in line]
    assert ["".join(row[:-2]) for row in table] == ["1x3x64x64", "3x3x97x131", "1x3x384x512", "2x3x32x32"]
    assert max(float(row[-1]) for row in table) < 1e-4
    assert names(out) == ["README.md", "config.json", "model.onnx", "model.safetensors"]
    assert_nothing_private(out, root, tmp_path, export.__file__.rpartition("launch")[0])

    model = onnx.load(out / "model.onnx")
    shapes = [
        [dimension.dim_param or dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert shapes == [["batch", 3, "height", "width"], ["batch", "height", "width"]]
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert "RGB in 0..1" in facts["input"] and "larger = nearer" in facts["output"]
    assert facts["training_size_hw"] == "32 32"
    assert ModelConfig(**json.loads(facts["network"])) == DepthNet.from_pretrained(out).config

    session = onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    net = DepthNet.from_pretrained(out)
    image = torch.rand(2, 3, 45, 77)
    (output,) = session.run(None, {"image": image.numpy()})
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(output), net(image), rtol=1e-4, atol=1e-4)

    photo(out)
    monkeypatch.chdir(out)
    scope: dict = {}
    exec(snippets((out / "README.md").read_text())[1], scope)
    assert scope["inverse_depth"].shape == (1, 32, 32)
