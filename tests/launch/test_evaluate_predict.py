import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from launch.cli import run_command
from launch.evaluate import main as evaluate
from launch.predict import main as predict
from model import DepthNet, ModelConfig
from model.sgr_checkpoint import SGR_CONFIG

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with a network that knows nothing."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    torch.manual_seed(0)
    DepthNet.from_config(ModelConfig(encoder="resnet18", decoder_channels=8)).save_pretrained(folder, size_hw=(64, 96))
    return folder


@pytest.fixture
def truth(tmp_path):
    """Two scenes whose depth falls towards the bottom."""
    disparity = np.repeat(np.arange(10, 70, dtype=np.uint8)[:, None], 80, axis=1)
    for name in ("hall/1", "hall/2"):
        (tmp_path / "gt" / name).mkdir(parents=True)
        Image.fromarray(disparity).save(tmp_path / "gt" / name / "disparity.png")
        Image.fromarray(np.full((60, 80, 3), 128, np.uint8)).save(tmp_path / "gt" / name / "left.png")
    index = [{"scene": name, "kind": "stereo", "divisor": 1} for name in ("hall/1", "hall/2")]
    (tmp_path / "gt" / "index.json").write_text(json.dumps(index))
    return tmp_path / "gt"


def photo(path, *, orientation=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 90, 3), dtype=np.uint8))
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    image.save(path, exif=exif)
    return path


def test_evaluation_prints_a_table_and_ends_with_the_record_it_stores(run, truth, tmp_path, capsys):
    out = tmp_path / "sub" / "figures"
    assert run_command(evaluate, ["--checkpoint", str(run), "--data", f"gt={truth}", "--out", str(out)]) == 0
    output = capsys.readouterr().out.splitlines()
    record = json.loads(output[-1])
    assert record == json.loads((out / "results.json").read_text())
    percent = record["whdr_percent"]
    assert list(percent) == ["tiny", "lower is nearer", "centre is farther"]
    assert percent["lower is nearer"] == {"hall": 0.0, "mean": 0.0}
    assert 0 <= percent["tiny"]["hall"] <= 100
    (benchmark,) = record["benchmarks"]
    assert benchmark["metrics"][0] == "whdr@0.02x10000s0"
    assert benchmark["pictures"] == {"hall": 2, "mean": 2}
    assert output[0].split()[:2] == ["gt=gt", "WHDR"]
    assert (out / "images.csv").read_text().count("hall/1,tiny,") == len(benchmark["metrics"])
    drawn = sorted(path.name for path in (out / "worst" / "01_gt" / "tiny").iterdir())
    assert [name[:2] for name in drawn] == ["01", "02"]
    assert str(tmp_path) not in output[-1]


def test_a_name_that_ends_in_json_takes_the_record_alone(run, truth, tmp_path, capsys):
    out = tmp_path / "sub" / "figures.json"
    assert run_command(evaluate, ["--checkpoint", str(run), "--data", f"gt={truth}", "--out", str(out)]) == 0
    assert json.loads(out.read_text()) == json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [path.name for path in out.parent.iterdir()] == ["figures.json"]


def test_two_checkpoints_are_compared_picture_by_picture(run, truth, tmp_path, capsys):
    other = tmp_path / "other"
    torch.manual_seed(1)
    DepthNet.from_config(ModelConfig(encoder="resnet18", decoder_channels=8)).save_pretrained(other, size_hw=(64, 96))
    arguments = ["--checkpoint", str(run), str(other), "--data", f"gt={truth}", "--out", str(tmp_path / "x.json")]
    assert run_command(evaluate, arguments) == 0
    output = capsys.readouterr().out
    assert "hall: tiny less other: " in output
    assert "hall: other less lower is nearer: " in output


def test_the_record_lies_in_the_run_folder_by_default_and_pairs_follow_the_options(run, truth, capsys):
    arguments = ["--checkpoint", str(run), "--data", f"gt={truth}", "--num-pairs", "500", "--seed", "3", "--worst", "0"]
    assert run_command(evaluate, arguments) == 0
    record = json.loads((run / "evaluation" / "results.json").read_text())
    assert record["benchmarks"][0]["metrics"][0] == "whdr@0.02x500s3"
    assert not math.isnan(record["seconds"])
    shutil.rmtree(run / "evaluation")
    capsys.readouterr()


def test_the_options_of_inference_reach_the_network(run, truth, tmp_path, capsys):
    def share(*options):
        out = tmp_path / "x.json"
        assert (
            run_command(evaluate, ["--checkpoint", str(run), "--data", f"gt={truth}", "--out", str(out), *options]) == 0
        )
        record = json.loads(out.read_text())
        return record["inference"], record["benchmarks"][0]["figures"][1]["value"]

    plain = share()
    flipped = share("--flip", "--scales", "0.75,1,1.25", "--long-side", "128")
    assert (plain[0], flipped[0]) == ("training area", "long side 128 · scales 0.75, 1, 1.25 · flip")
    assert plain[1] != flipped[1]
    out = tmp_path / "depth"
    image = str(photo(tmp_path / "a.png"))
    for options in ([], ["--flip"]):
        assert (
            run_command(predict, ["--checkpoint", str(run), image, "--out", str(out / "-".join(options)), *options])
            == 0
        )
    plain_png, flipped_png = (out / "a.inverse_depth.png", out / "--flip" / "a.inverse_depth.png")
    assert plain_png.read_bytes() != flipped_png.read_bytes()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "{run}", "--data", "diw2={truth}"], "gt=FOLDER"),
        (["--checkpoint", "{run}", "--data", "gt=/nowhere"], "/nowhere: no such folder"),
        (["--checkpoint", "{run}", "--data", "shards=/nowhere"], "/nowhere"),
        (["--checkpoint", "/nowhere", "--data", "gt={truth}"], "/nowhere: no such folder"),
        (["--checkpoint", "{truth}", "--data", "gt={truth}", "--out", "{truth}/x.json"], "holds neither"),
        (["--checkpoint", "{truth}/index.json", "--data", "gt={truth}"], "only the official model.pth.tar"),
        (["--data", "gt={truth}"], "--out FOLDER"),
        (["--checkpoint", "{run}", "--data", "gt={truth}", "--device", "abacus"], "--device abacus"),
        (["--checkpoint", "{run}", "--data", "gt={truth}", "--num-pairs", "0"], "--num-pairs"),
        (["--checkpoint", "{run}", "--data", "gt={truth}", "--worst", "100"], "--worst"),
        (["--checkpoint", "{run}", "--data", "gt={truth}", "--scales", "1,big"], "--scales 1,big"),
        (["--checkpoint", "{run}", "--data", "gt={truth}", "--long-side", "9"], "--long-side"),
        (["--checkpoint", "{run}", "--data", "diw={truth}"], "DIW_test.csv"),
        (["--checkpoint", "{run}", "--data", "nyu={truth}"], "654_*.csv"),
        (["--checkpoint", "{run}", "--data", "da2k={truth}"], "annotations.json"),
    ],
)
def test_mistakes_of_evaluate_are_one_line_and_exit_code_2(run, truth, capsys, arguments, message):
    filled = [argument.format(run=run, truth=truth) for argument in arguments]
    assert run_command(evaluate, filled) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    last = printed.err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last


def test_broken_truth_is_named_and_the_rest_evaluated_and_an_error_only_where_nothing_is_left(run, truth, capsys):
    path = truth / "hall" / "2" / "disparity.png"
    path.write_bytes(path.read_bytes()[:40])
    assert run_command(evaluate, ["--checkpoint", str(run), "--data", f"gt={truth}"]) == 0
    output = capsys.readouterr().out
    assert f"NOT EVALUATED, 1 picture could not be read: {path}" in output
    assert json.loads(output.splitlines()[-1])["benchmarks"][0]["failed"][0]["name"] == "hall/2"
    shutil.rmtree(run / "evaluation")
    (truth / "hall" / "1" / "left.png").write_bytes(b"broken")
    assert run_command(evaluate, ["--checkpoint", str(run), "--data", f"gt={truth}"]) == 2
    assert "none of its 2 pictures can be read" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (run / "evaluation").exists()


def test_a_folder_is_predicted_upright_and_a_broken_file_named(run, tmp_path, capsys):
    album = tmp_path / "album"
    photo(album / "a.jpg")
    photo(album / "trip" / "turned.jpg", orientation=6)
    (album / "broken.jpg").write_bytes(photo(tmp_path / "x.jpg").read_bytes()[:300])
    out = tmp_path / "out"
    assert run_command(predict, ["--checkpoint", str(run), str(album), "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert "2 of 3 pictures" in printed.out
    assert "broken.jpg" in printed.err
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*.*"))
    kinds = ("colour.png", "inverse_depth.png", "side_by_side.jpg")
    assert written == [f"{stem}.{kind}" for stem in ("a", "trip/turned") for kind in kinds]
    with Image.open(out / "a.inverse_depth.png") as plain, Image.open(out / "trip/turned.inverse_depth.png") as turned:
        assert (plain.size, turned.size) == ((90, 50), (50, 90))
        values = np.asarray(plain)
    assert (values.min(), values.max()) == (0, 65535)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "{run}", "/nowhere.jpg", "--out", "{out}"], "/nowhere.jpg"),
        (["--checkpoint", "{run}", "{empty}", "--out", "{out}"], "no picture there"),
        (["--checkpoint", "{run}", "{broken}", "--out", "{out}"], "none of the 1 pictures"),
        (["--checkpoint", "/nowhere", "{good}", "--out", "{out}"], "/nowhere: no such folder"),
        (["--checkpoint", "{broken}", "{good}", "--out", "{out}"], "only the official model.pth.tar"),
        (["--checkpoint", "{run}", "{good}", "--out", "{broken}"], "cannot write"),
    ],
)
def test_mistakes_of_predict_are_one_line_and_exit_code_2(run, tmp_path, capsys, arguments, message):
    places = {"run": run, "out": tmp_path / "out", "empty": tmp_path / "empty", "broken": tmp_path / "broken.png"}
    places["empty"].mkdir()
    places["broken"].write_bytes(b"no picture")
    places["good"] = photo(tmp_path / "good.png")
    assert run_command(predict, [argument.format(**places) for argument in arguments]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last


@pytest.mark.slow
def test_the_official_file_of_cvpr_2020_is_evaluated_and_predicts(truth, tmp_path, capsys):
    path = tmp_path / "model.pth.tar"
    torch.manual_seed(0)
    state = DepthNet(SGR_CONFIG).state_dict()
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    assert run_command(evaluate, ["--checkpoint", str(path), "--data", f"gt={truth}"]) == 0
    record = json.loads((tmp_path / "model.pth.tar.evaluation" / "results.json").read_text())
    assert 0 <= record["whdr_percent"]["model.pth.tar"]["hall"] <= 100
    out = tmp_path / "out"
    assert run_command(predict, ["--checkpoint", str(path), str(photo(tmp_path / "a.png")), "--out", str(out)]) == 0
    assert "1 of 1 pictures" in capsys.readouterr().out
    with Image.open(out / "a.inverse_depth.png") as depth:
        assert depth.size == (90, 50)


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_help_needs_no_torch(command):
    probe = (
        "import atexit, runpy, sys\n"
        "atexit.register(lambda: print('TORCH' if 'torch' in sys.modules else 'LIGHT'))\n"
        "sys.argv[1:] = ['--help']\n"
        f"runpy.run_module('launch.{command}', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("LIGHT")
    assert "default" in done.stdout
