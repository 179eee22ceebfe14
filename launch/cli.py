"""The console script `depthrank`, and the boundary at which an error becomes a message and an exit code.

    depthrank train --config configs/demo.yaml      # the same as python -m launch.train --config configs/demo.yaml

A command is a module with `main(argv: list[str] | None = None) -> int`; run as a module it ends with
`sys.exit(run_command(main))`.
"""

import importlib
import os
import select
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TextIO

from launch import __version__
from shards.errors import DepthRankError, DivergedError

__all__ = ["COMMANDS", "main", "run_command"]

COMMANDS = {
    "shards": "raw stereo pictures -> a dataset of shards",
    "inspect": "figures of a dataset of shards; verify, reindex, split, merge",
    "review": "a page on which a person looks through a dataset's pairs and decides",
    "eyes": "a trained checkpoint votes on pairs whose eye order is undecided",
    "samples": "a sheet of the augmented pictures that a training step sees",
    "train": "train a network on shards, or go on with a run",
    "evaluate": "measure networks on shards and on folders with ground truth",
    "predict": "inverse depth of a picture or of a folder of pictures",
    "demo": "a page: drop a picture, click two points, see which is nearer",
    "export": "a network as a folder for others, with a model card, and as ONNX",
    "push": "a network, its config and its model card to the Hugging Face Hub",
    "report": "one HTML page about a run: curves, figures, pictures, settings",
    "doctor": "is this machine fit for a run? what is wrong, and how to mend it",
    "status": "how a run stands, as text and exit code",
    "kaggle": "training on Kaggle: uploads, notebook, chained versions",
}

_MEND_MEMORY = (
    "in training take train.micro_batch_size=1, which changes no result, or a smaller train.size; elsewhere a smaller "
    "--batch-size or --long-side, or --device cpu; nvidia-smi tells who else uses it"
)
EXIT_DIVERGED = 1
EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def run_command(command: Callable[[list[str]], int], argv: Sequence[str] | None = None) -> int:
    """Run a command; what its user can mend becomes one message on stderr, a defect keeps its traceback.

    Args:
        command: takes the arguments after the command's name and returns an exit code.
        argv: these arguments; None takes the process's.

    Returns:
        the command's exit code; 2 for a mistake that the message explains, 1 for a run that diverged, 130 after
        Ctrl-C, 141 when the reader of the output has gone.
    """
    try:
        try:
            return command(list(sys.argv[1:] if argv is None else argv))
        finally:
            sys.stdout.flush()  # here, where a reader that has gone is noticed, and not at the interpreter's exit
    except DivergedError as error:
        _say(error)
        return EXIT_DIVERGED
    except DepthRankError as error:
        _say(error)
        return EXIT_MISTAKE
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported for this
            raise
        _say(DepthRankError(f"out of memory on the GPU; {_MEND_MEMORY}\n  {str(error).partition('. ')[0]}"))
        return EXIT_MISTAKE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        return EXIT_BROKEN_PIPE


def main(argv: list[str] | None = None) -> int:
    """`depthrank COMMAND ...`; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    name = arguments[0] if arguments else None
    if name in COMMANDS:
        module = importlib.import_module(f"launch.{name}")
        return run_command(module.main, arguments[1:])
    return run_command(_without_command, arguments)


def _without_command(arguments: list[str]) -> int:
    if not arguments:
        print(_usage(), file=sys.stderr)
        return EXIT_MISTAKE
    name = arguments[0]
    if name in {"-h", "--help", "help"}:
        print(_usage())
        return 0
    if name == "--version":
        print(f"depthrank {__version__}")
        return 0
    close = get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(COMMANDS)}"
    print(f"error: unknown command '{name}' ({hint})", file=sys.stderr)
    return EXIT_MISTAKE


def _usage() -> str:
    lines = [f"  {name:<10} {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "usage: depthrank COMMAND ...",
            "",
            "Monocular relative depth learned from web stereo pictures.",
            "",
            *lines,
            "",
            "depthrank COMMAND --help says more; depthrank --version prints the version.",
        ]
    )


def _say(error: DepthRankError) -> None:
    sys.stdout.flush()
    rank = os.environ.get("RANK", "0")
    print(f"error: {error}" if rank == "0" else f"error (rank {rank}): {error}", file=sys.stderr)


def _reader_is_gone() -> bool:
    """Whether a broken pipe was our own output. If so, point it at nothing, or Python complains again at exit."""
    gone = [stream.fileno() for stream in (sys.stdout, sys.stderr) if _is_broken_pipe(stream)]
    for descriptor in gone:
        with Path(os.devnull).open("w") as nothing:
            os.dup2(nothing.fileno(), descriptor)
    return bool(gone)


def _is_broken_pipe(stream: TextIO) -> bool:
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)  # errors are always reported
    except (OSError, ValueError, AttributeError):  # no file behind it, or a system without poll
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


if __name__ == "__main__":
    sys.exit(main())
