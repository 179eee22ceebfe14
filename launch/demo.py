"""A page in the browser: drop a picture, see its relative depth, click two points and be told which is nearer.

    python -m launch.demo --checkpoint runs/web

Only this machine reaches it unless --host says otherwise. Nothing is stored, nothing is fetched from a network. Ctrl-C
ends it.
"""

import argparse
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from launch.cli import run_command
from launch.command_parser import CommandParser
from launch.inference_options import add_inference_options, chosen_inference

if TYPE_CHECKING:
    from pipeline.eval.network import LoadedNetwork

__all__ = ["main"]

LAST_PORT = 65_535


def main(argv: list[str] | None = None) -> int:
    """Run the command on the arguments after its name (None: the process's) and return its exit code."""
    return _serve(_parser().parse_args(argv))


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="depthrank demo",
        description="Serve a page: drop, choose, paste or take a picture, see its relative inverse depth (red = near), "
        "click two points and be told which is nearer. Ctrl-C ends it. Needs the extra `demo`.",
    )
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="PATH",
        help="a run folder, a checkpoint, an export, the official model.pth.tar of CVPR 2020, or OWNER/NAME on the "
        "Hugging Face Hub (extra `hub`)",
    )
    parser.add_argument(
        "--port", type=int, default=7860, metavar="N", help="port of the page (default: 7860); 0 takes a free one"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen at (default: 127.0.0.1, this machine only); 0.0.0.0 lets in everyone who reaches it, "
        "without password and unencrypted",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="serve under this name too, such as that of a reverse proxy; may be repeated",
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda, cuda:N or mps (default: auto: CUDA, else an Apple GPU, else cpu)",
    )
    add_inference_options(parser)
    return parser


def _serve(options: argparse.Namespace) -> int:
    from pipeline.eval.device import choose_device
    from pipeline.eval.predict import Predictor
    from shards.errors import ConfigError

    try:
        from pipeline.eval.demo.app import demo_app
        from pipeline.eval.demo.guard import is_loopback, served_names
        from pipeline.eval.demo.server import DemoServer
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise ConfigError(f'the page needs {error.name}: pip install "depthrank[demo]"') from error

    inference = chosen_inference(options)
    if not 0 <= options.port <= LAST_PORT:
        raise ConfigError(f"--port must be 0 to {LAST_PORT}, not {options.port}")
    served = served_names(options.host, options.allow_host)
    with _listen(options.host, options.port) as listener:
        device, reason = choose_device(options.device)
        loaded = _load(options.checkpoint, str(device))
        for refused in loaded.refused:
            print(f"passed over: {refused}", file=sys.stderr)
        print(f"weights: {loaded.origin}; on {device} ({reason}), {inference.describe()}", file=sys.stderr)
        about = {
            "weights": _public_name(loaded, options.checkpoint),
            "network": f"{loaded.net.config.name}, {loaded.net.config.encoder}",
            "trained at": "{} × {}".format(*reversed(loaded.net.size_hw)),
            "options": inference.describe(),
        }
        predictor = Predictor(loaded.net, device, inference=inference)
        server = DemoServer(demo_app(predictor, about, served))
        port = listener.getsockname()[1]
        if not is_loopback(options.host):
            print(
                f"warning: everyone who reaches {options.host} at port {port} can use this page; it has no password "
                "and no encryption",
                file=sys.stderr,
            )
        print(f"open {_address(options.host, port)} in a browser; Ctrl-C ends it", flush=True)
        with suppress(KeyboardInterrupt):  # the way to end it, and no failure
            server.run(sockets=[listener])
        print("ended", file=sys.stderr)
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens, so that a mistake in the address is told before the network is loaded.

    Raises:
        ConfigError: There is no such address here, or another program has the port.
    """
    from shards.errors import ConfigError

    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:  # the latter of a name that no DNS can hold
        raise ConfigError(f"--host {host}: no such address ({getattr(error, 'strerror', error)})") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"--host {host} --port {port}: cannot listen there ({error.strerror}); --port 0 takes a free one"
        ) from error
    return listener


def _load(checkpoint: str, device: str) -> "LoadedNetwork":
    """The network of a path, or of a repository of the Hub where there is no such path."""
    from model.hub import network_folder
    from pipeline.eval.network import load_network
    from shards.errors import CheckpointError

    try:
        folder = network_folder(checkpoint)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    return load_network(folder, device)


def _public_name(loaded: "LoadedNetwork", given: str) -> str:
    """What visitors may know of where the weights come from: no folders of this machine."""
    origin = loaded.origin.resolve()
    if not Path(given).exists():
        name = given  # on the Hub
    else:
        name = f"{origin.parents[1].name}, {origin.name}" if origin.parent.name == "checkpoints" else origin.name
    return f"{name}, the moving average" if loaded.averaged else name


def _address(host: str, port: int) -> str:
    """Where a browser finds the page; the machine's name where it listens at all its addresses."""
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else host
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"


if __name__ == "__main__":
    sys.exit(run_command(main))
