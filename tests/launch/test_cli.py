import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

import launch
from launch import cli
from launch.arguments import PACK_KEYS, TRAIN_KEYS, CommandParser, add_config_arguments, read_recipe
from launch.cli import COMMANDS, run_command
from pipeline.train.config import RunConfig
from shards.config import PackConfig
from shards.errors import CheckpointError, ConfigError, DepthRankError, DivergedError

ROOT = Path(__file__).parents[2]


def raising(error: BaseException):
    def command(argv: list[str]) -> int:
        raise error

    return command


def test_the_command_gets_its_arguments_and_gives_the_exit_code() -> None:
    seen = []

    def command(argv: list[str]) -> int:
        seen.append(argv)
        return 75

    assert run_command(command, ("a", "b=c")) == 75
    assert seen == [["a", "b=c"]]


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigError("x"), 2), (CheckpointError("x"), 2), (DepthRankError("x"), 2), (DivergedError("x"), 1)],
)
def test_a_mistake_is_one_message_and_an_exit_code(error, code: int, capsys) -> None:
    assert run_command(raising(error), []) == code
    assert capsys.readouterr() == ("", "error: x\n")


def test_other_ranks_say_which_they_are(capsys, monkeypatch) -> None:
    monkeypatch.setenv("RANK", "3")
    assert run_command(raising(DepthRankError("x")), []) == 2
    assert capsys.readouterr().err == "error (rank 3): x\n"


def test_a_full_gpu_is_no_defect(capsys) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")
    assert run_command(raising(error), []) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: out of memory on the GPU; in training take train.micro_batch_size=1")
    assert said.endswith("\n  CUDA out of memory\n")


def test_ctrl_c_is_quiet(capsys) -> None:
    assert run_command(raising(KeyboardInterrupt()), []) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("error", [ValueError("x"), BrokenPipeError(), FileNotFoundError("x"), SystemExit(3)])
def test_defects_pass_through(error) -> None:
    with pytest.raises(type(error)):
        run_command(raising(error), [])


@pytest.mark.parametrize("end", ["", "raise SystemExit(0)"])
def test_a_reader_that_goes_away_is_no_error(end: str) -> None:
    code = (
        "import sys; from launch.cli import run_command\n"
        "def command(argv):\n"
        "    print('y' * 100)\n"
        f"    {end or 'print(chr(10).join(map(str, range(100000))))'}\n"
        "    return 0\n"
        "sys.stdin.read(); sys.exit(run_command(command, []))"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_dispatch_runs_the_subcommand(tmp_path: Path, capsys) -> None:
    assert cli.main(["status", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'none'}: no such run folder\n"


@pytest.mark.parametrize(
    ("argv", "code", "out", "err"),
    [
        (["--version"], 0, f"depthrank {launch.__version__}\n", ""),
        (["trian", "x=1"], 2, "", "error: unknown command 'trian' (did you mean 'train'?)\n"),
        (["x"], 2, "", f"error: unknown command 'x' (there are {', '.join(COMMANDS)})\n"),
    ],
)
def test_without_a_command(argv: list[str], code: int, out: str, err: str, capsys) -> None:
    assert cli.main(argv) == code
    assert capsys.readouterr() == (out, err)


def test_the_usage_lists_every_command(capsys) -> None:
    assert cli.main(["--help"]) == 0
    helped = capsys.readouterr().out
    assert cli.main([]) == 2
    assert capsys.readouterr() == ("", helped)
    assert all(f"\n  {name} " in helped for name in COMMANDS)


def test_the_version_is_the_package_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == launch.__version__
    assert project["scripts"] == {"depthrank": "launch.cli:main"}


def parser() -> CommandParser:
    made = CommandParser(prog="depthrank train", description="Train.")
    made.add_argument("--dry-run", action="store_true")
    add_config_arguments(made, TRAIN_KEYS)
    return made


def test_overrides_and_options_may_be_mixed() -> None:
    args = parser().parse_intermixed_args(["train.steps=1", "--dry-run", "run=r", "--config", "c.yaml", "a=b"])
    assert (args.config, args.dry_run, args.print_config) == ("c.yaml", True, False)
    assert args.overrides == ["train.steps=1", "run=r", "a=b"]


def test_settings_written_as_options_are_explained(capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_intermixed_args(["--train.steps=3"])
    assert caught.value.code == 2
    first, hint, *usage = capsys.readouterr().err.splitlines()
    assert first == "error: unrecognized arguments: --train.steps=3"
    assert hint == "  --train.steps is no option; settings have no dashes: train.steps=3"
    assert usage[0].startswith("usage: depthrank train ")


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["--dryrun"], "  --dryrun is no option (did you mean --dry-run?)"),
        (["--print-confg", "train.steps=1"], "  --print-confg is no option (did you mean --print-config?)"),
        (["--lr", "1e-3"], "  --lr is no option; settings have no dashes: optim.lr=VALUE"),
        (["--batch-size=4"], "  --batch-size is no option; settings have no dashes: train.batch_size=4"),
    ],
)
def test_an_option_that_does_not_exist_is_answered_with_what_was_meant(argv: list[str], hint: str, capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_intermixed_args(argv)
    assert caught.value.code == 2
    assert hint in capsys.readouterr().err.splitlines()


def test_a_required_option_that_was_misspelt(capsys) -> None:
    made = CommandParser(prog="x", description="X.")
    made.add_argument("--checkpoint", required=True)
    with pytest.raises(SystemExit):
        made.parse_args(["--chekpoint", "a"])
    said = capsys.readouterr().err
    assert "error: the following arguments are required: --checkpoint\n" in said
    assert "  --chekpoint is no option (did you mean --checkpoint?)\n" in said


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["chian"], "  did you mean chain?"),
        (["chain", "--kernle", "x"], "  --kernle is no option (did you mean --kernel?)"),
    ],
)
def test_actions_of_a_command_and_their_options(argv: list[str], hint: str, capsys) -> None:
    made = CommandParser(prog="x", description="X.")
    actions = made.add_subparsers(required=True, parser_class=CommandParser)
    actions.add_parser("chain", description="Chain.").add_argument("--kernel")
    with pytest.raises(SystemExit) as caught:
        made.parse_args(argv)
    assert caught.value.code == 2
    assert hint in capsys.readouterr().err.splitlines()


def test_options_are_not_abbreviated() -> None:
    with pytest.raises(SystemExit):
        parser().parse_intermixed_args(["--conf", "x"])


def test_print_config_needs_nothing_and_ends(capsys) -> None:
    args = parser().parse_intermixed_args(["--print-config", "train.steps=3"])
    with pytest.raises(SystemExit) as caught:
        read_recipe(args, needs=RunConfig)
    assert caught.value.code == 0
    assert "  steps: 3 " in capsys.readouterr().out


def test_read_recipe_demands_what_the_command_needs_and_tells_what_overrides_did(tmp_path: Path, capsys) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("run: r\ndata: {train: d}\ntrain: {epochs: 2}\n")
    args = parser().parse_intermixed_args(["--config", str(path), "train.steps=3"])
    assert read_recipe(args, needs=RunConfig).run_config().train.steps == 3
    assert capsys.readouterr().err == f"note: command line: train.steps replaces train.epochs ({path}:3)\n"
    with pytest.raises(ConfigError, match=r"out: missing[^$]*source\.kind: missing"):
        read_recipe(args, needs=PackConfig)


@pytest.mark.parametrize("shown", [TRAIN_KEYS, PACK_KEYS])
def test_help_explains_each_shown_setting(shown: tuple[str, ...]) -> None:
    made = CommandParser(prog="depthrank x", description="X.")
    add_config_arguments(made, shown)
    text = made.format_help()
    starts = [line.strip().partition("=")[0] for line in text.splitlines() if line.startswith("  ") and line[2] != " "]
    assert [start for start in starts if start in shown] == list(shown)


def test_help_gives_defaults_choices_and_bounds() -> None:
    text = " ".join(parser().format_help().split())
    assert "train.batch_size=8 Samples of one optimizer step over all processes;" in text
    assert "optim.lr=0.0001 Peak rate of the decoder. > 0" in text
    assert "optim.schedule=cosine How the rate falls over the run. One of constant, step, poly, cosine." in text
    assert "data.train Folder or fsspec URL" in text
    assert "relative to the current directory" in text
