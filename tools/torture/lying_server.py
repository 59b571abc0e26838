"""A server that is honest but for its lies: its answers, its stalls, and what it says on WebSockets."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from PIL import Image

SECONDS = 45  # on the clock, whatever the server does
ACCEPT_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
BODIES = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "a number": b"1e999",
    "brackets": b"[" * 200_000,
    "braces": b'{"a":' * 100_000,
    "half a character": b'{"\\ud800": "\\udfff"}',
    "a long number": b"9" * 10_000,
    "bytes": bytes(range(256)) * 8,
    "a web page": b"<!DOCTYPE html><html><body>Log in</body></html>",
    "large": b'{"a": "' + b"x" * (3 << 20) + b'"}',
}
Lie = Callable[[BaseHTTPRequestHandler], None]


def make_picture() -> bytes:
    """Return a PNG file."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


def make_honest_answers() -> dict[str, object]:
    """Return what a good server answers, by path; the job is called `job`."""
    image = {"filename": "art_00001_.png", "subfolder": "sub", "type": "output"}
    text = {
        "input": {
            "required": {"text": ["STRING", {"default": ""}]},
            "optional": {"image": ["IMAGE"]},
        },
        "output_node": False,
    }
    save = {
        "input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {}]}},
        "output_node": True,
    }
    show = {"input": {"required": {"source": ["*", {}]}}, "output_node": True}
    load = {"input": {"required": {"image": [["in.png"], {"image_upload": True}]}}, "output_node": False}
    return {
        "/system_stats": {"system": {}},
        "/object_info": {"Paint": text, "SaveImage": save, "PreviewAny": show, "LoadImage": load},
        "/upload/image": {"name": "in.png", "subfolder": "", "type": "input"},
        "/queue": {"queue_running": [[0, "other", {}, {}, []]], "queue_pending": []},
        "/prompt": {"prompt_id": "job", "number": 1, "node_errors": {}},
        "/history/job": {
            "job": {
                "outputs": {"2": {"images": [image]}, "3": {"text": ["a fox"]}},
                "status": {"status_str": "success", "messages": []},
            }
        },
    }


REJECTION = {
    "error": {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation"},
    "node_errors": {
        "1": {
            "errors": [{"message": "Too large", "details": "text", "extra_info": {"input_name": "text"}}],
            "dependent_outputs": ["2"],
            "class_type": "Paint",
        }
    },
}
EVENTS: tuple[dict, ...] = (
    {"type": "executing", "data": {"node": "1", "display_node": "1", "prompt_id": "job"}},
    {"type": "progress", "data": {"node": "1", "value": 1, "max": 3, "prompt_id": "job"}},
    {"type": "executed", "data": {"node": "3", "output": {"text": ["a fox"]}, "prompt_id": "job"}},
    {"type": "executing", "data": {"node": None, "prompt_id": "job"}},
)


class LyingServer:
    """A server on a free port that is honest but for its lies.

    By path, an answer's body or what is done in place of it.
    """

    def __init__(self, lies: dict[str, bytes | Lie]):
        answers = {path: json.dumps(answer).encode() for path, answer in make_honest_answers().items()} | {
            "/view": make_picture()
        }
        self.requests: list[tuple[str, str | None]] = []  # path and Authorization
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                path = urlsplit(self.path).path
                owner.requests.append((path, self.headers["Authorization"]))
                self.close_connection = True
                known = next((lies[name] for name in lies if path.startswith(name)), answers.get(path))
                with contextlib.suppress(OSError, ValueError):  # the client goes when it has had enough
                    if callable(known):
                        known(self)
                    elif known is None:
                        answer(self, b"nothing here", 404)
                    else:
                        answer(self, known)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()


def answer(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    """Send a whole answer."""
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def drip(handler: BaseHTTPRequestHandler, pieces: Iterator[bytes], pause: float) -> None:
    """Send pieces with pauses, as long as the client listens."""
    for piece in pieces:
        handler.wfile.write(piece)
        handler.wfile.flush()
        time.sleep(pause)


def repeat_forever(piece: bytes, start: bytes = b"") -> Iterator[bytes]:
    """Yield a start, then one piece without end."""
    yield start
    while True:
        yield piece


HEAD = b"HTTP/1.1 200 OK\r\n"
STALLS: dict[str, Lie] = {
    "never answers": lambda handler: time.sleep(SECONDS),
    "status byte by byte": lambda handler: drip(handler, iter([b"H"] * 200), 0.2),
    "headers byte by byte": lambda handler: drip(handler, repeat_forever(b"x", HEAD + b"a: "), 0.2),
    "headers without end": lambda handler: drip(handler, repeat_forever(b"a: b\r\n", HEAD), 0),
    "100 Continue without end": lambda handler: drip(
        handler, repeat_forever(b"HTTP/1.1 100 Continue\r\n\r\n"), 0.001
    ),
    "body byte by byte": lambda handler: drip(
        handler, repeat_forever(b" ", HEAD + b"Content-Length: 999\r\n\r\n"), 0.2
    ),
    "body without end": lambda handler: drip(handler, repeat_forever(b" " * 65536, HEAD + b"\r\n"), 0),
    "chunks without end": lambda handler: drip(
        handler, repeat_forever(b"1\r\n \r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\n"), 0.1
    ),
    "claims 2^62 bytes": lambda handler: drip(
        handler, iter([HEAD + b"Content-Length: 4611686018427387904\r\n\r\n{}"]), 0
    ),
    "breaks off": lambda handler: drip(handler, iter([HEAD + b"Content-Length: 99\r\n\r\n{}"]), 0),
    "no HTTP": lambda handler: drip(handler, iter([b"\0\xff" * 500]), 0),
    "an error byte by byte": lambda handler: drip(
        handler, repeat_forever(b"x", b"HTTP/1.1 500 Oops\r\nContent-Length: 999\r\n\r\n"), 0.2
    ),
}  # fmt: skip
NAMES = {
    "through a link": {"filename": "x.png", "subfolder": "link"},
    "through a link in its name": {"filename": "link/x.png", "subfolder": ""},
    "above": {"filename": "x.png", "subfolder": ".."},
    "from the root": {"filename": "/tmp/x.png", "subfolder": ""},
    "a device": {"filename": "CON", "subfolder": ""},
    "control characters": {"filename": "\x1b[2J.png", "subfolder": ""},
    "of 5000 letters": {"filename": "x" * 5000 + ".png", "subfolder": ""},
}
VIEWS = {name: BODIES[name] for name in ("nothing", "a web page", "null", "bytes")} | {
    "half": make_picture()[:3]
}


def shake_hands(handler: BaseHTTPRequestHandler) -> None:
    """Speak WebSocket from here on."""
    key = base64.b64encode(
        hashlib.sha1((handler.headers["Sec-WebSocket-Key"] or "").encode() + ACCEPT_KEY).digest()
    )
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    handler.wfile.write(head + b"Sec-WebSocket-Accept: " + key + b"\r\n\r\n")
    handler.wfile.flush()


def speak(pieces: Callable[[], Iterator[bytes]], pause: float, handler: BaseHTTPRequestHandler) -> None:
    """Send the same bytes to whoever listens."""
    shake_hands(handler)
    drip(handler, pieces(), pause)


def tell(kind: str, **data: object) -> Lie:
    """Tell of one event of the job."""
    event = {"type": kind, "data": {"prompt_id": "job", **data}}
    return partial(speak, lambda: iter([frame_text(event)]), 0)


def frame_text(event: object) -> bytes:
    """Return an event as one frame."""
    return frame_bytes(json.dumps(event).encode())


def frame_bytes(payload: bytes) -> bytes:
    """Return a text as one frame."""
    return (
        b"\x81"
        + (bytes([len(payload)]) if len(payload) < 126 else struct.pack(">BQ", 127, len(payload)))
        + payload
    )


SOCKETS: dict[str, Lie] = {
    "pings without end": partial(speak, lambda: repeat_forever(b"\x89\x00"), 0.001),
    "frame of 2^62 bytes": partial(speak, lambda: iter([b"\x81\x7f" + struct.pack(">Q", 1 << 62)] * 2), 3),
    "fragments without end": partial(
        speak, lambda: repeat_forever(b"\x00\x7e\xff\xff" + b"x" * 65535, b"\x01\x00"), 0
    ),
    "frame byte by byte": partial(speak, lambda: repeat_forever(b"x", b"\x81\x7e\xff\xff"), 0.2),
    "events without end": partial(speak, lambda: repeat_forever(frame_text(EVENTS[1])), 0.001),
    "reserved bits": partial(speak, lambda: repeat_forever(b"\xff\xff\xff\xff"), 0.1),
    "no UTF-8": partial(speak, lambda: iter([b"\x81\x02\xff\xfe"]), 3),
    "closes at once": partial(speak, lambda: iter([b"\x88\x00"]), 0),
    "progress without a value": tell("progress", node="1", max=3),
    "executed without a node": tell("executed", output={"text": ["a fox"]}),
    "executed with a list": tell("executed", node="3", output=["a fox"]),
    "executed with brackets": partial(speak, lambda: iter([frame_bytes(b"[" * 200_000)]), 0),
    "half a character": tell("executed", node="\ud800", output={"text": ["\udfff"]}),
    "handshake byte by byte": STALLS["headers byte by byte"],
    "handshake without end": STALLS["headers without end"],
    "never answers": STALLS["never answers"],
}
