"""Who is served: only under the names of this machine, and only the page itself may send pictures.

    guarded = Guard(app, served_names("127.0.0.1", ["demo.example.org"]))

A page of another site can make a visitor's browser call any address the visitor reaches. What it cannot do is choose
the Host header, which names the other site even where its DNS has been pointed here (DNS rebinding); nor the Origin.
"""

import ipaddress
import re
import socket
from collections.abc import Collection, Iterable
from typing import NamedTuple

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shards.errors import ConfigError

__all__ = ["Guard", "ServedNames", "is_loopback", "served_names"]

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^\s:/@\[\]]+)(?::\d{1,5})?")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


class ServedNames(NamedTuple):
    """The hosts that a request may name."""

    names: frozenset[str]
    any_address: bool
    """Numbers too: no DNS can be pointed at them."""

    def serve(self, host: str | None) -> bool:
        """Whether a Host header, port included, is one of these."""
        match = _HOST.fullmatch((host or "").lower())
        if match is None:
            return False
        return match["name"] in self.names or (self.any_address and _is_address(match["name"].strip("[]")))


def served_names(bind: str, also: Iterable[str] = ()) -> ServedNames:
    """The names of a server.

    Args:
        bind: The address it listens at. Loopback is served under its own names only; any other also under every
            number and under the machine's own name.
        also: Further names, such as that of a reverse proxy.

    Raises:
        ConfigError: One of these is no plain name.
    """
    also = list(also)
    for name in also:
        match = _HOST.fullmatch(name.lower())
        if match is None or match["name"] != name.lower():
            raise ConfigError(f"--allow-host {name}: give a name alone, without scheme and port")
    names = {*_LOOPBACK, *(name.lower() for name in also)}
    if is_loopback(bind):
        return ServedNames(frozenset(names), any_address=False)
    own = socket.gethostname().lower()
    return ServedNames(frozenset({*names, bind.lower(), own, f"{own.partition('.')[0]}.local"}), any_address=True)


def is_loopback(bind: str) -> bool:
    """Whether only this machine reaches an address."""
    return bind == "localhost" or (_is_address(bind) and ipaddress.ip_address(bind).is_loopback)


class Guard:
    """ASGI middleware: refuses foreign hosts and foreign pages, and gives every answer its security headers.

    Args:
        app: What is guarded.
        served: The hosts that a request may name.
    """

    def __init__(self, app: ASGIApp, served: ServedNames) -> None:
        self._app = app
        self._served = served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        app = self._refusal(scope["method"], Headers(scope=scope)) or self._app
        await app(scope, receive, send_with_headers)

    def _refusal(self, method: str, headers: Headers) -> ASGIApp | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._served.serve(hosts[0]):
            text = "This server is not known under that name. Whoever runs it can allow it with --allow-host NAME.\n"
            return PlainTextResponse(text, 421)
        if method not in ("GET", "HEAD") and not _is_own_page(headers.getlist("origin"), hosts[0], headers):
            return PlainTextResponse("Only the page itself may send pictures here.\n", 403)
        return None


def _is_own_page(origins: Collection[str], host: str, headers: Headers) -> bool:
    """Whether a request comes from the page, or from a program that is no browser and names no origin at all.

    The scheme is not compared: behind a proxy the page may be https.
    """
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    return all(origin.partition("://")[2].lower() == host.lower() for origin in origins)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
