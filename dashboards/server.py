"""Serving the pages to this machine alone, or with a token to others.

The pages start no measurements and take no files; what they answer is guarded all the same: a page
of somebody else's in the same browser must not read them.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import re
import secrets
import socket
from collections.abc import Iterable

import psutil
from dash import Dash
from dash.exceptions import DependencyException
from flask import Flask, Response, abort, redirect, request
from waitress.server import create_server
from werkzeug.exceptions import HTTPException

from results.records.errors import UserError

from .questions import is_callback

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
HOST = re.compile(r"(\[[^]]*\]|[^:]*)(?::[0-9]{1,5})?")
MOST_BODY_BYTES = 2**20
MOST_HEADER_BYTES = 2**16
QUEUE = "waitress.queue"  # its log, which would tell of every page that asks for many figures
THREADS = 3  # figures are computed one after another anyway: with few, the first is there soon
COOKIE = "sam-bench-token"
CALLBACK = "/_dash-update-component"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class ServeError(UserError):
    """The pages can't be served as asked."""


def guard(app: Dash, hosts: Iterable[str], token: str | None) -> None:
    """Refuse what none of our pages would ask; tell browsers what our pages may do.

    Args:
        app: All of its callbacks are there.
        hosts: Names and addresses by which it may be asked for.
        token: What everybody needs to know; None on loopback.
    """
    server: Flask = app.server
    names = frozenset(hosts)
    server.config["MAX_CONTENT_LENGTH"] = MOST_BODY_BYTES
    policy = content_policy(app)

    @server.before_request
    def check() -> Response | None:
        # Flask's own list of hosts takes no IPv6.
        host = HOST.fullmatch(request.headers.get("Host", ""))
        if host is None or host[1].lower() not in names:
            abort(400, "This is not the address of these pages.")
        if is_from_elsewhere():
            abort(403, "This page may only be asked by itself.")
        known = request.cookies.get(COOKIE, "").encode()
        if token is not None and not hmac.compare_digest(known, token.encode()):
            return admit(token)
        if request.path == CALLBACK and not is_callback(app, request.get_data(as_text=True)):
            abort(400, "This is no question that these pages ask.")
        return None

    @server.after_request
    def protect(response: Response) -> Response:
        response.headers.update(HEADERS)
        response.headers["Content-Security-Policy"] = policy
        if response.mimetype in ("text/html", "application/json"):
            response.headers["Cache-Control"] = "no-store"
        return response

    @server.errorhandler(Exception)
    def answer(error: Exception) -> tuple[str, int, dict[str, str]]:
        """One line; what happened inside stays here."""
        kind = {"Content-Type": "text/plain; charset=utf-8"}
        if isinstance(error, DependencyException):
            return "There is no such file.\n", 404, kind
        if isinstance(error, HTTPException):
            return f"{error.description}\n", error.code or 500, kind
        server.logger.exception("a page could not be made")
        return "This page could not be made; the terminal says why.\n", 500, kind


def content_policy(app: Dash) -> str:
    """Scripts of ours alone; figures style their elements and make pictures of themselves."""
    scripts = " ".join(f"'{each.strip(chr(39))}'" for each in app.csp_hashes())
    return "; ".join(
        [
            "default-src 'self'",
            f"script-src 'self' {scripts}",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


def is_from_elsewhere() -> bool:
    """Whether another site's page asks, by what browsers tell of it."""
    if request.headers.get("Sec-Fetch-Site", "none") == "cross-site" and request.method != "GET":
        return True
    origin = request.headers.get("Origin")
    return origin is not None and origin.partition("://")[2] != request.host


def admit(token: str) -> Response:
    """Take the token from the address to a cookie, so that it is in no address that is sent on."""
    if not hmac.compare_digest(request.args.get("token", "").encode(), token.encode()):
        abort(403, "These pages need the address with the token that sam-bench printed.")
    response = redirect("/" + request.path.lstrip("/\\"))  # of this server, whatever is asked
    response.set_cookie(COOKIE, token, httponly=True, samesite="Strict")
    return response  # type: ignore[return-value]  # werkzeug says its own class, Flask makes its


def own_names() -> set[str]:
    """Names and addresses of this machine."""
    names = {socket.gethostname(), socket.getfqdn()}
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family == socket.AF_INET:
                names.add(each.address)
            elif each.family == socket.AF_INET6:
                names.add(f"[{each.address.partition('%')[0]}]")
    return {name.lower() for name in names}


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


class Pages:
    """The pages at an address, until `serve` is stopped.

    Args:
        app: With all of its callbacks.
        host: To listen at.
        port: 0 takes any that is free.

    Raises:
        ServeError: Where the port is taken, or the address is not this machine's.
    """

    def __init__(self, app: Dash, host: str, port: int) -> None:
        token = None if is_loopback(host) else secrets.token_urlsafe(24)
        shown = f"[{host}]" if ":" in host else host
        hosts = {*LOOPBACK, shown.lower()} | (set() if token is None else own_names())
        guard(app, hosts, token)
        try:
            self.server = create_server(
                app.server,
                host=host,
                port=port,
                threads=THREADS,
                ident="",
                max_request_body_size=MOST_BODY_BYTES,
                max_request_header_size=MOST_HEADER_BYTES,
            )
        except OSError as error:
            raise ServeError(
                f"{host}:{port} can't be listened at: {error.strerror}. Choose another with "
                "--port, or 0 for any that is free."
            ) from error
        except ValueError as error:  # waitress's own
            raise ServeError(
                f"--host must be an address or a name of this machine, got {host[:60]!a}."
            ) from error
        several = getattr(self.server, "effective_listen", None)  # addresses of one name
        port = several[0][1] if several else self.server.effective_port
        query = f"?token={token}" if token is not None else ""
        self.address = f"http://{shown}:{port}/{query}"

    def serve(self) -> None:
        """Until Ctrl-C."""
        logging.getLogger(QUEUE).setLevel(logging.ERROR)
        self.server.run()

    def close(self) -> None:
        """Listen no longer."""
        self.server.close()
