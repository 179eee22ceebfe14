import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from launch.cli import run_command
from launch.predict import main as predict
from model import DepthNet, ModelConfig
from pipeline.eval.album import find_pictures
from pipeline.eval.network import load_network
from pipeline.eval.predict import Predictor
from pipeline.eval.predict_album import predict_album
from pipeline.train.checkpoint import CheckpointStore
from pipeline.train.config import CheckpointConfig
from shards.errors import RunError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with a network that knows nothing."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    torch.manual_seed(0)
    DepthNet.from_config(ModelConfig(encoder="resnet18", decoder_channels=8)).save_pretrained(folder, size_hw=(64, 96))
    return folder


def photo(path, size=(90, 50), seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def call(run, *arguments):
    return run_command(predict, ["--checkpoint", str(run), *map(str, arguments)])


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_of_a_mixed_album_everything_readable_is_written_and_the_rest_named_at_the_end(run, tmp_path, capsys):
    album = tmp_path / "album"
    photo(album / "a.jpg")
    photo(album / "trip" / "a.png", (50, 90), 1)
    photo(album / "trip" / "deep" / "b.webp", (200, 60), 2)
    (album / "broken.jpg").write_bytes(photo(tmp_path / "x.jpg").read_bytes()[:300])
    (album / "empty.png").touch()
    (album / "notes.txt").write_text("hello")
    out = tmp_path / "out"
    assert call(run, album, f"{tmp_path}/al*/trip/*.png", "--out", out, "--format", "npy") == 1
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        f"3 of 5 pictures predicted into {out}, 2 could not be (named above)",
        "1 other file passed over: notes.txt",
    ]
    failed = [line for line in said.err.splitlines() if line.startswith("not predicted: ")]
    assert [name in " ".join(failed) for name in ("broken.jpg", "empty.png")] == [True, True]
    assert said.err.splitlines()[-2:] == failed
    assert f"weights: {run}; on " in said.err
    stems = ("a", "trip/a", "trip/deep/b")
    assert files_below(out) == [f"{stem}.inverse_depth.npy" for stem in stems]
    assert [np.load(out / f"{stem}.inverse_depth.npy").shape for stem in stems] == [(50, 90), (90, 50), (60, 200)]


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_pictures_of_one_network_size_share_a_batch_and_each_keeps_its_own_answer(run, tmp_path, batch_size):
    net = load_network(run, "cpu").net
    sizes = [(90, 50), (60, 120), (90, 50), (60, 120), (92, 52), (60, 120), (90, 50)]
    paths = [photo(tmp_path / f"{number}.png", size, number) for number, size in enumerate(sizes)]
    shapes = []
    hook = net.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    answers = {}
    predictor = Predictor(net, "cpu", batch_size=batch_size)
    outcomes = list(
        predict_album(predictor, find_pictures(paths).jobs, lambda job, _, answer: answers.update({job.path: answer}))
    )
    hook.remove()
    assert sorted(outcome.path for outcome in outcomes) == paths
    assert len(shapes) == {1: 7, 2: 4, 5: 2}[batch_size]
    assert max(shape[0] for shape in shapes) <= batch_size
    for path in paths:
        with Image.open(path) as image:
            np.testing.assert_allclose(answers[path], Predictor(net, "cpu")(np.asarray(image)), atol=1e-5)


def test_large_pictures_do_not_wait_until_memory_is_full(run, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.eval.predict_album._WAITING_PX", 10_000)
    paths = [photo(tmp_path / f"{number}.png", (100, 60), number) for number in range(6)]
    net = load_network(run, "cpu").net
    shapes = []
    net.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape[0]))
    outcomes = list(predict_album(Predictor(net, "cpu", batch_size=64), find_pictures(paths).jobs, lambda *_: None))
    assert [outcome.failure for outcome in outcomes] == [""] * 6
    assert shapes == [2, 2, 2]


def test_one_diverged_or_unwritable_picture_is_a_failure_and_a_full_disk_the_end(run, tmp_path):
    jobs = find_pictures([photo(tmp_path / f"{name}.png") for name in "abc"]).jobs
    predictor = Predictor(load_network(run, "cpu").net, "cpu")

    def odd(job, image, inverse_depth):
        if job.path.stem == "b":
            raise ValueError("values that are not finite")

    failures = [outcome.failure for outcome in predict_album(predictor, jobs, odd)]
    assert [bool(failure) for failure in failures] == [False, True, False]
    assert "b.png: values that are not finite" in failures[1]

    def full(job, image, inverse_depth):
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=r"a\.png.*No space left"):
        list(predict_album(predictor, jobs, full))


def test_a_name_too_long_for_its_output_does_not_end_the_rest(run, tmp_path, capsys):
    long = photo(tmp_path / f"{'x' * 245}.png")
    assert call(run, long, photo(tmp_path / "a.png"), "--out", tmp_path / "out") == 1
    assert "names of its output would be too long" in capsys.readouterr().err
    assert len(files_below(tmp_path / "out")) == 3


def test_odd_pictures_are_upright_rgb_without_their_metadata(run, tmp_path, capsys):
    album = tmp_path / "album"
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "home address"
    photo(album / "turned.jpg", exif=exif)
    with Image.open(photo(tmp_path / "x.png")) as image:
        image.convert("CMYK").save(album / "cmyk.jpg")
        image.convert("P").save(album / "palette.png")
        image.convert("RGBA").save(album / "alpha.png")
        image.save(album / "animated.gif", save_all=True, append_images=[image.rotate(180)])
    Image.fromarray(np.arange(4500, dtype=np.uint16).reshape(50, 90)).save(album / "grey.png")
    out = tmp_path / "out"
    assert call(run, album, "--out", out, "--format", "png16,colour-jpg") == 0
    capsys.readouterr()
    assert len(files_below(out)) == 12
    for path in out.iterdir():
        with Image.open(path) as image:
            assert image.size == ((50, 90) if path.name.startswith("turned") else (90, 50))
            assert not image.getexif()
        assert b"home address" not in path.read_bytes()


def test_what_is_there_is_skipped_only_where_asked_and_complete(run, tmp_path, capsys):
    album = tmp_path / "album"
    for name in ("a", "b", "c"):
        photo(album / f"{name}.png")
    out = tmp_path / "out"
    assert call(run, album, "--out", out) == 0
    (out / "b.colour.png").unlink()
    before = {name: (out / name).stat().st_ino for name in files_below(out)}
    capsys.readouterr()
    assert call(run, album, "--out", out, "--skip-existing") == 0
    assert f"1 of 3 pictures predicted into {out}, 2 already there" in capsys.readouterr().out
    changed = {name for name in files_below(out) if before.get(name) != (out / name).stat().st_ino}
    assert changed == {f"b.{kind}" for kind in ("colour.png", "inverse_depth.png", "side_by_side.jpg")}
    assert call("/nowhere", album, "--out", out, "--skip-existing") == 0, "with nothing to do no network is needed"
    assert call(run, album, "--out", out) == 0
    assert "3 of 3" in capsys.readouterr().out


def test_output_among_the_pictures_is_not_predicted_again(run, tmp_path, capsys):
    photo(tmp_path / "a.png")
    every = "png16,npy,colour,colour-jpg,side-by-side"
    for _ in range(2):
        assert call(run, tmp_path, "--out", tmp_path, "--format", every, "--ply") == 0
    assert "6 files of earlier predictions left alone" in capsys.readouterr().out
    assert len(files_below(tmp_path)) == 7


def test_the_point_cloud_has_the_size_and_the_assumptions_asked_for(run, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--ply", "--fov-deg", "70", "--depth-ratio", "3", "--max-points", "1000", "--format", "npy"]
    assert call(run, photo(tmp_path / "a.png"), "--out", out, *options) == 0
    capsys.readouterr()
    header, points = (out / "a.relative.ply").read_bytes().split(b"end_header\n")
    assert b"70 deg" in header and b"3 x as far" in header
    count = int(header.split(b"element vertex ")[1].split()[0])
    assert 0 < count <= 1000
    assert len(points) == count * struct.calcsize("<fffBBB")
    assert files_below(out) == ["a.inverse_depth.npy", "a.relative.ply"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "png"], "did you mean png16?"),
        (["--batch-size", "0"], "--batch-size must be 1 to 1024"),
        (["--fov-deg", "179"], "--fov-deg must be"),
        (["--max-points", "-1"], "--max-points must be"),
        (["--depth-ratio", "1"], "--depth-ratio must be"),
    ],
)
def test_options_out_of_range_are_told_before_the_network_is_loaded(tmp_path, capsys, options, message):
    assert call("/nowhere", photo(tmp_path / "a.png"), "--out", tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err


def test_the_average_of_a_checkpoints_weights_predicts_and_is_announced(tmp_path, capsys):
    config = ModelConfig(encoder="resnet18", decoder_channels=8)
    net, average = (DepthNet.from_config(config) for _ in range(2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1).state_dict()
    store = CheckpointStore(tmp_path / "run", run_id="run", config=CheckpointConfig())
    weights = {"model": net.state_dict(), "optimizer": optimizer, "ema": average.state_dict()}
    model = config.model_dump(mode="json")
    store.save(5, weights, {"config": {"model": model, "train": {"size": [64, 96], "steps": 5}}, "ema_updates": 5})
    store.wait()
    path = photo(tmp_path / "a.png")
    assert call(tmp_path / "run", path, "--out", tmp_path / "out", "--format", "npy", "--device", "cpu") == 0
    assert "step_00000005, the moving average of its weights; on " in capsys.readouterr().err
    with Image.open(path) as image:
        expected = Predictor(average, "cpu", size_hw=(64, 96))(np.asarray(image))
    np.testing.assert_allclose(np.load(tmp_path / "out" / "a.inverse_depth.npy"), expected, atol=1e-5)


@pytest.mark.slow
def test_a_killed_job_leaves_only_whole_files_and_is_carried_on(run, tmp_path):
    album, out = tmp_path / "album", tmp_path / "out"
    for number in range(30):
        photo(album / f"{number:02d}.jpg", (900, 700), number)
    command = [sys.executable, "-m", "launch.predict", "--checkpoint", run, album, "--out", out, "--batch-size", "2"]
    with subprocess.Popen(list(map(str, command)), cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and len(list(out.glob("[0-9]*"))) < 7:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    there = [path for path in out.iterdir() if not path.name.startswith(".")]
    assert 7 <= len(there) < 90
    for path in there:
        with Image.open(path) as image:
            image.load()
    done = subprocess.run(
        [*map(str, command), "--skip-existing"], cwd=ROOT, capture_output=True, text=True, env=os.environ, check=True
    )
    assert "already there" in done.stdout
    assert len([path for path in out.iterdir() if not path.name.startswith(".")]) == 90
