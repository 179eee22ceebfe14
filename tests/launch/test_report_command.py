import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from launch.cli import run_command
from launch.report import main as report
from pipeline.train.lock import RunLock
from shards.writer import DatasetWriter

from ..eval.report_run import make_run, make_sample

HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(2)>"


class Page(HTMLParser):
    """Tags and addresses of a page, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.text, self.skip = [], [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.skip = tag == "style"
        self.tags.append(tag)
        names = ("src", "href", "xlink:href", "data", "action", "srcset")
        self.addresses += [value for name, value in attrs if name in names]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_endtag(self, tag):
        self.skip = False

    def handle_data(self, data):
        if not self.skip:
            self.text += data


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def run(kept, tmp_path):
    """A stopped run that a test may damage; its data lies elsewhere."""
    return Path(shutil.copytree(kept, tmp_path / "web"))


def page_of(run, *options):
    assert run_command(report, [str(run), "--device", "cpu", *options]) == 0
    text = (run / "report.html").read_text()
    return text, Page(text)


def test_the_page_needs_nothing_else_and_names_no_place(run):
    text, page = page_of(run)
    assert "script" not in page.tags and "link" not in page.tags
    assert all(re.match(r"#|data:image/jpeg;base64,", address) for address in page.addresses)
    assert page.tags.count("img") == 5 * 4  # five pictures: input, prediction, target, wrong pairs
    for private in (str(run.parent), "/tmp/", "jane-pc"):
        assert private not in text
    for said in ("stopped", "40", "27.00 %", "of 100", "step_00000040, on cpu", "lower is nearer", "run=…/web"):
        assert said in page.text
    assert not list(run.glob(".report*"))


def test_the_worst_pictures_come_first_then_random_ones_the_same_each_time(run):
    text, page = page_of(run, "--pictures", "4")
    shares = [float(share) for share in re.findall(r"<h3>WHDR ([\d.]+) %", text)]
    assert len(shares) == 4 and shares[0] >= shares[1] >= max(shares[2:])
    assert page.text.count("among the worst") == page.text.count("drawn at random") == 2
    names = re.findall(r'alt="([^"]+)"', text)
    assert names == re.findall(r'alt="([^"]+)"', page_of(run, "--pictures", "4")[0])


def test_a_damaged_newest_checkpoint_is_passed_over_and_named(run, capsys):
    weights = run / "checkpoints" / "step_00000040" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    _, page = page_of(run)
    assert "step_00000020, on cpu" in page.text and "sha256 does not agree" in page.text
    weights.write_bytes(data[:-1])
    _, page = page_of(run, "--no-gallery")
    assert f"has {len(data) - 1} bytes" in page.text and "left out by --no-gallery" in page.text
    assert run_command(report, [str(run), "--checkpoint", str(weights.parent)]) == 2
    assert "model.safetensors" in capsys.readouterr().err.splitlines()[-1]


def test_whatever_is_missing_or_damaged_is_named(run):
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 45\n\x00\x00\n{"step": 50, "session": 2, "train/loss": ')
    (run / "env.json").write_text("[" * 10**5)
    (run / "status.json").write_text("{")
    (run / "evaluation.json").write_text("7")
    shutil.rmtree(run / "checkpoints")
    _, page = page_of(run)
    for said in ("3 damaged lines", "env.json cannot be read", "not a status", "evaluation.json is not", "unknown"):
        assert said in page.text
    assert "No pictures: no network" in page.text and "27.00 %" in page.text


@pytest.mark.parametrize("left", ["status.json", "config.yaml", "metrics.jsonl", "checkpoints"])
def test_any_one_thing_of_a_run_is_enough_for_a_page(run, left):
    for path in run.iterdir():
        if path.name != left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    page_of(run)


def test_aliases_in_the_config_are_refused_before_they_unfold(run):
    layers = "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(30))
    (run / "config.yaml").write_text(f"a0: &a0 [x]\n{layers}")
    _, page = page_of(run)
    assert "config.yaml cannot be read (it has YAML aliases)" in page.text


def test_a_run_that_trains_says_so_and_a_killed_one_is_stopped(run):
    status = json.loads((run / "status.json").read_text()) | {"state": "running"}
    (run / "status.json").write_text(json.dumps(status))
    with RunLock(run):
        assert '<span class="state running">' in page_of(run, "--no-gallery")[0]
    assert "was killed" in page_of(run, "--no-gallery")[1].text


def test_hostile_names_and_values_are_inert_text(tmp_path):
    run = make_run(tmp_path, finished=True)
    shutil.rmtree(tmp_path / "shards")
    with DatasetWriter(str(tmp_path / "shards"), shard_bytes=60_000, config={}) as writer:
        writer.add("train", make_sample(0))
        writer.add("val", make_sample(1, meta={"name": HOSTILE}))
        writer.finish({HOSTILE: 3})
    status = json.loads((run / "status.json").read_text()) | {"reason": HOSTILE, "next_command": HOSTILE}
    (run / "status.json").write_text(json.dumps(status))
    (run / "env.json").write_text(json.dumps({"device": HOSTILE, "packages": {HOSTILE: HOSTILE}}))
    record = {"benchmarks": [{"data": HOSTILE, "notes": [HOSTILE]}], HOSTILE: {HOSTILE: {HOSTILE: HOSTILE}}}
    (run / "evaluation.json").write_text(json.dumps(record))
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 41, "session": 2, HOSTILE: 1.0}) + "\n")
    _, page = page_of(run)
    assert "script" not in page.tags and page.text.count("alert(1)") >= 8
    assert "The finished network" in page.text


def test_a_run_without_validation_set_has_a_page(tmp_path):
    _, page = page_of(make_run(tmp_path, val=0))
    assert "the run has no validation set" in page.text and "img" not in page.tags


def test_data_that_is_not_at_hand_leaves_the_rest(tmp_path):
    run = make_run(tmp_path)
    shutil.rmtree(tmp_path / "shards")
    text, page = page_of(run)
    assert "the validation set cannot be read" in page.text and "there is no such dataset" in page.text
    assert str(tmp_path) not in text and "Validation WHDR" in page.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "page.txt"], "ends in .html"),
        (["--pictures", "0"], "--pictures"),
        (["--checkpoint", "nowhere"], "no such folder or file"),
        (["--checkpoint", "nowhere", "--no-gallery"], "give one"),
        (["--out", "status.json/page.html", "--no-gallery"], "--out"),
        (["--device", "cuda:99"], "--device"),
    ],
)
def test_a_mistake_is_one_message(run, options, said, monkeypatch, capsys):
    monkeypatch.chdir(run)
    assert run_command(report, [".", *options]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and said in errors[0]
    assert not list(run.glob("*.html"))


def test_a_folder_that_is_no_run_is_a_mistake(tmp_path, capsys):
    for place in (tmp_path, tmp_path / "none"):
        assert run_command(report, [str(place)]) == 2
        assert capsys.readouterr().err.startswith(f"error: {place}: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_run_needs_a_place_for_the_page(run, tmp_path, capsys):
    run.chmod(0o555)
    try:
        assert run_command(report, [str(run), "--no-gallery"]) == 2
        assert "--out FILE.html" in capsys.readouterr().err
        assert run_command(report, [str(run), "--no-gallery", "--out", str(tmp_path / "new" / "page.html")]) == 0
    finally:
        run.chmod(0o755)


def test_help_loads_nothing_heavy():
    code = "import sys; from launch.report import main\ntry:\n main(['--help'])\nfinally:\n"
    code += " assert not {'torch', 'matplotlib', 'jinja2', 'cv2'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("usage: depthrank report")
