"""What can be said of the Dockerfile without a Docker daemon: its files, its user, its names, and its steps."""

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEPS = ROOT / "launch" / "docker" / "install.sh"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TOOLS = ["sh", "sed", "rm"]


def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [(words[0], words[2]) for words in (line.partition(" ") for line in joined)]


def kept_out(path: Path) -> bool:
    """Whether .dockerignore keeps a file or folder of the root out; the last pattern that fits decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#") and fnmatch.fnmatch(path.parts[0], line.lstrip("!")):
            out = not line.startswith("!")
    return out


def test_all_that_is_copied_is_there_and_the_program_is_whole():
    copied = [name for kind, rest in instructions() if kind == "COPY" for name in rest.split()[:-1]]
    for name in copied:
        assert (ROOT / name).exists() and not kept_out(Path(name)), name
    packages = {pattern.rstrip("*") for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    needed = {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]}
    assert packages | needed <= set(copied)
    for private in (".git", "runs", ".venv", "tests"):
        assert kept_out(Path(private))


def test_nobody_is_root_and_the_program_is_the_entry():
    found = dict(instructions())
    assert int(found["USER"]) > 0
    kinds = [kind for kind, _ in instructions()]
    assert "RUN" not in kinds[kinds.index("USER") :]
    assert found["ENTRYPOINT"] == '["depthrank"]' and "depthrank" in PROJECT["project"]["scripts"]


def test_no_host_is_named_and_each_argument_is_explained():
    text = (ROOT / "Dockerfile").read_text() + STEPS.read_text()
    assert not re.search(r"https?://|\b[\w-]+\.(com|org|io|co)\b", text)
    for kind, rest in instructions():
        if kind == "ARG":
            name = rest.partition("=")[0]
            assert text.count(name) > 2
            assert f"`{name}`" in (ROOT / "docs" / "docker.md").read_text()


def test_each_step_is_one_of_the_script():
    steps = [rest for kind, rest in instructions() if kind == "RUN" and "install.sh" in rest]
    assert [shlex.split(step)[:2] for step in steps] == [["sh", "launch/docker/install.sh"]] * 3
    assert [shlex.split(step)[2] for step in steps] == ["torch", "requirements", "program"]


@pytest.fixture
def image(tmp_path):
    """A folder with the project's file, and a PATH of Python, of a `pip` that tells what it was asked, and no more."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(str(shutil.which(name)))
    (tools / "pip").write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\nfor word in "$@"; do [ "$former" != --constraint ] && '
        f'[ "$former" != --requirement ] || {{ while read -r line; do echo "$line"; done <"$word"; }} '
        f">>{tmp_path}/read; former=$word; done\n"
    )
    (tools / "pip").chmod(0o755)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def python(image: Path, *, has_torch: bool) -> None:
    text = f'exec {sys.executable} "$@"'
    if not has_torch:
        text = f'case "$*" in *"import torch"*) exit 1 ;; esac\n{text}'
    (image / "bin" / "python").write_text(f"#!/bin/sh\n{text}\n")
    (image / "bin" / "python").chmod(0o755)


def step(image: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(image / "bin"), "HOME": os.environ.get("HOME", "/"), **more}
    return subprocess.run(
        ["sh", str(STEPS), *arguments],
        cwd=image,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_an_image_s_own_torch_stays(image):
    python(image, has_torch=True)
    assert "which stays" in step(image, "torch").stdout
    assert not (image / "asked").exists()
    assert step(image, "requirements", EXTRAS="s3,onnx").returncode == 0
    lines = (image / "read").read_text().splitlines()
    from importlib.metadata import version

    assert f"torch=={version('torch')}" in lines
    wanted = PROJECT["project"]["dependencies"] + [
        text for extra in ("s3", "onnx") for text in PROJECT["project"]["optional-dependencies"][extra]
    ]
    assert set(wanted) <= set(lines)


def test_an_image_without_torch_gets_it_from_the_index_that_was_given(image):
    python(image, has_torch=False)
    assert step(image, "torch", TORCH_INDEX="file:///wheels").returncode == 0
    asked = (image / "asked").read_text()
    assert asked.startswith("install --index-url file:///wheels --constraint ")
    assert asked.endswith(" torch>=2.6 torchvision>=0.21\n")
    assert {"torch>=2.6", "torchvision>=0.21"} <= set(PROJECT["project"]["dependencies"])


def test_an_unknown_extra_and_an_unknown_step_are_told(image):
    python(image, has_torch=False)
    told = step(image, "requirements", EXTRAS="s3,nonsense")
    assert told.returncode and "there is no extra 'nonsense', only s3, " in told.stderr
    assert step(image, "all").returncode == 2
