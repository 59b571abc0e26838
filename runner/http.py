"""Ask an HTTP server: one deadline for a whole answer, one limit for its size, no redirects."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import SplitResult

from vd_core.foreign import printable

PIECE = 1 << 16  # bytes that are read at once
LONGEST_REASON = 1 << 16  # bytes of the body of an error


class Answered(Exception):
    """The server answers with an error, or sends elsewhere: `status` and what it says of it, on one line."""

    def __init__(self, status: int, reason: str, body: bytes):
        super().__init__(f"{status}: {reason}")
        self.status, self.reason, self.body = status, reason, body


def connect(url: SplitResult, seconds: float) -> socket.socket:
    """Open a connection to the host of an http or https address; TLS has still to shake hands."""
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        plain = socket.create_connection((url.hostname or "", port), seconds)
    except UnicodeError as error:  # a name that no host can have
        raise OSError(f"there is no host {printable(url.hostname or '')}") from error
    if url.scheme != "https":
        return plain
    context = ssl.create_default_context()
    return context.wrap_socket(plain, server_hostname=url.hostname, do_handshake_on_connect=False)


@contextmanager
def cut_after(connection: socket.socket, seconds: float) -> Iterator[None]:
    """Cut a connection off when its time is up.

    A server that sends a byte now and then would reset other timeouts.

    Raises TimeoutError then.
    """
    expired = threading.Event()

    def cut() -> None:
        expired.set()
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, ValueError, HTTPException) as error:  # as the end of the connection looks to its reader
        if expired.is_set():
            raise TimeoutError(f"no whole answer within {seconds:g} seconds") from error
        raise
    finally:
        timer.cancel()
    if expired.is_set():
        raise TimeoutError(f"no whole answer within {seconds:g} seconds")


def ask(
    url: SplitResult, path: str, headers: dict[str, str], body: bytes | None, seconds: float, most: int
) -> Iterator[bytes]:
    """Send GET for a path of a host, or POST where there is a body; yields the answer piece by piece.

    Raises Answered for every status but 200, OSError and HTTPException for what is no whole answer in time,
    or has more than `most` bytes. Redirects are never followed, so headers, which may hold a password, reach
    no other place.
    """
    sock = connect(url, seconds)
    kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
    connection = kind(url.hostname or "", url.port)
    connection.sock = sock
    with closing(sock), closing(connection), cut_after(sock, seconds):
        if isinstance(sock, ssl.SSLSocket):
            sock.do_handshake()
        connection.request("GET" if body is None else "POST", path, body, {**headers, "Connection": "close"})
        answer = connection.getresponse()
        if answer.status != 200:
            said = answer.read(LONGEST_REASON)
            elsewhere = answer.headers.get("Location", "")
            reason = (
                f"a redirect to {elsewhere}"
                if elsewhere
                else " ".join(said.decode("utf-8", "replace").split())
            )
            raise Answered(answer.status, printable(reason), said)
        yield from read_bounded(answer, most)


def read_bounded(answer: HTTPResponse, most: int) -> Iterator[bytes]:
    """Yield the body of an answer.

    Raises ConnectionError for more than `most` bytes, or less than it claims.
    """
    claimed, count = answer.length, 0
    while piece := answer.read1(PIECE):
        count += len(piece)
        if count > most:
            raise ConnectionError(f"it sends more than {most >> 20} MB")
        yield piece
    if claimed is not None and count < claimed:
        raise ConnectionError("the answer breaks off")


def parse_json(body: bytes) -> object:
    """Parse JSON from elsewhere. Raises ValueError for whatever is none, brackets without end included."""
    try:
        return json.loads(body)
    except RecursionError as error:
        raise ValueError("too many brackets") from error


def fits(value: object, shape: object) -> bool:
    """Tell whether JSON has a shape.

    A shape is a type, or a tuple of them; [shape] for a list; {str: shape} for an object with any names;
    {"name": shape} for one that has these and perhaps others, where "name?" may be missing.
    """
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(entry, shape[0]) for entry in value)
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return False
        if str in shape:
            return all(fits(entry, shape[str]) for entry in value.values())
        given = ((name.removesuffix("?"), name.endswith("?"), inner) for name, inner in shape.items())
        return all(fits(value[name], inner) if name in value else optional for name, optional, inner in given)
    return isinstance(value, shape)  # type: ignore[arg-type]
