"""The demo under uvicorn, and its end: who waits is told, the picture at work is finished, then it is over.

DemoServer(demo_app(predict, about, served)).run(sockets=[listener])
"""

import socket

import uvicorn

from pipeline.eval.demo.app import Demo

__all__ = ["DemoServer"]

_MAX_CONNECTIONS = 64
"""More get a plain 503; a browser opens up to six."""


class DemoServer(uvicorn.Server):
    """Serves a demo until it is told to end."""

    def __init__(self, demo: Demo) -> None:
        settings = uvicorn.Config(
            demo.app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,  # warnings and defects go where the rest of the process sends them
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_MAX_CONNECTIONS,
        )
        super().__init__(settings)
        self._desk = demo.desk

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, which waits for the requests that are not cancelled."""
        self._desk.close()
        await super().shutdown(sockets)
