"""The demo as a web application: the page, its facts, and pictures in, depth out. Nothing touches the disk.

    demo = demo_app(predict, {"weights": "web"}, served_names("127.0.0.1"))

| address | what |
|---|---|
| `GET /` and the files it names | the page |
| `GET /about` | JSON: network, bounds, palette |
| `GET /example.png` | a rendered scene |
| `POST /predict` | a picture's bytes as `application/octet-stream`; `pipeline.eval.demo.answer` has the answer |

Whatever goes wrong is told as `{"error": "a sentence"}` with a status that fits.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipeline.eval.colour import turbo_palette
from pipeline.eval.demo.answer import EQUAL_SHARE, UPLOAD_PIXELS, answer, example_picture
from pipeline.eval.demo.desk import BusyError, Desk
from pipeline.eval.demo.guard import Guard, ServedNames
from pipeline.eval.demo.upload import Bounds, TooLargeError, drain, receive
from pipeline.eval.predict import Predictor
from pipeline.eval.stills import reads_heic
from shards.errors import DecodeError, DepthRankError

__all__ = ["Demo", "demo_app"]

_PAGE = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "answer.js": "text/javascript; charset=utf-8",
    "compare.js": "text/javascript; charset=utf-8",
    "view.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_PICTURE_TYPE = "application/octet-stream"
_Handler = Callable[[Request], Awaitable[Response]]


class Demo(NamedTuple):
    """What `pipeline.eval.demo.server` serves."""

    app: Guard
    desk: Desk


def demo_app(
    predict: Predictor,
    about: Mapping[str, str],
    served: ServedNames,
    bounds: Bounds = Bounds(),  # noqa: B008 - frozen
) -> Demo:
    """Build the application.

    Args:
        predict: Asks the network; called for one picture at a time, in a thread.
        about: What the page says of the network, by heading.
        served: The hosts that a request may name.
        bounds: On what visitors send.
    """
    desk = Desk(bounds.places)
    facts = {
        "about": dict(about),
        "upload_bytes": bounds.upload_bytes,
        "upload_pixels": UPLOAD_PIXELS,
        "heic": reads_heic(),
        "equal_share": EQUAL_SHARE,
        "palette": turbo_palette().tolist(),
    }

    async def tell_facts(_: Request) -> Response:
        return JSONResponse(facts)

    async def give_example(_: Request) -> Response:
        async with desk.turn():
            return Response(await asyncio.to_thread(_example), media_type="image/png")

    async def predict_picture(request: Request) -> Response:
        if request.headers.get("content-type") != _PICTURE_TYPE:
            return _problem(415, f"send the bytes of a picture as {_PICTURE_TYPE}")
        data = await receive(request, bounds)
        async with desk.turn():
            if await request.is_disconnected():
                raise ClientDisconnect
            return Response(await asyncio.to_thread(answer, predict, data), media_type=_PICTURE_TYPE)

    routes = [Route(f"/{name}" if name != "index.html" else "/", _file(name, kind)) for name, kind in _PAGE.items()]
    routes += [
        Route("/about", tell_facts),
        Route("/example.png", _explained(give_example, desk, bounds)),
        Route("/predict", _explained(predict_picture, desk, bounds), methods=["POST"]),
    ]
    return Demo(Guard(Starlette(routes=routes), served), desk)


def _explained(handler: _Handler, desk: Desk, bounds: Bounds) -> _Handler:
    """The handler with a place at the desk, and a sentence for each way in which it fails."""

    async def handle(request: Request) -> Response:
        with desk.visit():
            try:
                with desk.place():
                    return await handler(request)
            except BusyError:
                await drain(request, bounds)
                return _problem(503, "too many pictures are waiting; try again in a moment", {"Retry-After": "5"})
            except TooLargeError:
                return _problem(413, f"the file has more than {bounds.upload_bytes / 1024**2:g} MiB")
            except TimeoutError:
                return _problem(408, f"the picture did not arrive within {bounds.upload_seconds:g} s")
            except DecodeError as error:
                return _problem(422, str(error))
            except DepthRankError as error:
                return _problem(500, str(error))
            except ClientDisconnect:
                return Response(status_code=400)  # which nobody reads
            except asyncio.CancelledError:
                return _problem(503, "the server is ending")

    return handle


@lru_cache(maxsize=1)
def _example() -> bytes:
    return example_picture()


def _file(name: str, media_type: str) -> _Handler:
    content = (files("pipeline.eval.demo") / "page" / name).read_bytes()

    async def give(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return give


def _problem(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": sentence}, status, headers)
