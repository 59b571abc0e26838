"""Servers that lie, stall and leak, met by `run_workflow.py --server`.

It ends in time, with one clean sentence or good files.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
import io
import json
import random
import re
import struct
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image

from runner import listener, server, websocket
from runner.command import main

from .forked import Result, Table, run_forked

MUTATIONS = 1500  # of honest answers and events
SECONDS = 45  # on the clock, whatever the server does
MEMORY = 256 << 20  # bytes beyond what the parent has
ACCEPT_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
ODD: tuple[object, ...] = (
    None, True, 0, -1, 10**400, float("nan"), float("inf"), "", "x", "\x1b[2J\x07", "a\nb", "\ud800",
    "x" * 20_000,
    [], {}, [[]], [None], {"a": {}}, [["a", "b"], {}], {"": None}, "../x", "/etc/x", "link/x.png", "CON",
)  # fmt: skip
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
FLOW = {
    "1": {"class_type": "Paint", "inputs": {"text": "x"}, "_meta": {"title": "Painter\x1b[2J"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "art"}},
    "3": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
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
        "input": {"required": {"text": ["STRING", {"default": ""}]}, "optional": {}},
        "output_node": False,
    }
    save = {
        "input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {}]}},
        "output_node": True,
    }
    show = {"input": {"required": {"source": ["*", {}]}}, "output_node": True}
    return {
        "/system_stats": {"system": {}},
        "/object_info": {"Paint": text, "SaveImage": save, "PreviewAny": show},
        "/queue": {"queue_running": [[0, "other", {}, {}, []]], "queue_pending": []},
        "/prompt": {"prompt_id": "job", "number": 1, "node_errors": {}},
        "/history/job": {
            "job": {
                "outputs": {"2": {"images": [image]}, "3": {"text": ["a fox"]}},
                "status": {"status_str": "success", "messages": []},
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


def frame_text(event: object) -> bytes:
    """Return an event as one frame."""
    payload = json.dumps(event).encode()
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
    "handshake byte by byte": STALLS["headers byte by byte"],
    "handshake without end": STALLS["headers without end"],
    "never answers": STALLS["never answers"],
}


def mutate(value: object, rng: random.Random) -> object:
    """Return JSON with one value anywhere in it replaced by an odd one."""
    changed = copy.deepcopy({"": value})
    place: object = changed
    while True:
        assert isinstance(place, (dict, list))
        key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
        inner = place[key]
        if not isinstance(inner, (dict, list)) or not inner or rng.random() < 0.3:
            place[key] = rng.choice(ODD)
            if isinstance(place, dict) and rng.random() < 0.1:
                place[rng.choice(["\x1b[31m", "x" * 5000, "job", "2", "\ud800"])] = place.pop(key)
            return changed.get("")
        place = inner


def run_once(lies: dict[str, bytes | Lie], place: Path, *options: str) -> tuple[Result, LyingServer]:
    """Run a workflow on a lying server -> how it ended.

    In time, with clean words, and with nothing but good files.
    """
    server.TIMEOUT, server.SHORT, server.LONGEST_FILE, listener.SHORT = 3, 2, 3, 1
    server.TICK = 0.2  # type: ignore[assignment]
    threading.stack_size(1 << 20)  # those of the server's threads count as memory of this process
    server.LARGEST = server.LARGEST_FILE = websocket.LARGEST = 2 << 20
    (out := place / "out").mkdir(parents=True, exist_ok=True)
    (place / "elsewhere").mkdir(exist_ok=True)
    if not (out / "link").is_symlink():
        (out / "link").symlink_to(place / "elsewhere")
    (place / "flow.json").write_text(json.dumps(FLOW))
    liar, started = LyingServer(lies), time.monotonic()
    url = liar.url.replace("//", "//user:secret@")
    words, errors = io.StringIO(), io.StringIO()
    arguments = [
        str(place / "flow.json"),
        "--server",
        url,
        "--output",
        str(out),
        "--wait",
        "0",
        "--timeout",
        "20",
    ]
    with contextlib.redirect_stdout(words), contextlib.redirect_stderr(errors):
        status = main([*arguments, *options])
    liar.http.shutdown()
    return judge(status, words.getvalue(), errors.getvalue(), place, time.monotonic() - started), liar


def judge(status: int, words: str, errors: str, place: Path, seconds: float) -> Result:
    """Say how a run ended."""
    last = (errors.splitlines() or [""])[-1]
    out = place / "out"
    files = [path for path in out.rglob("*") if path.is_file()]
    if seconds > SECONDS:
        return Result("hung", f"{seconds:.0f} s: {last}")
    if stray := [
        path for path in place.rglob("*") if path.is_file() and path.parent != place and path not in files
    ]:
        return Result("wrong", f"wrote {stray}")
    if bad := [path for path in files if path.suffix == ".png" and path.read_bytes() != make_picture()]:
        return Result("wrong", f"kept {bad} ({bad[0].stat().st_size} bytes)")
    if left := [path for path in files if path.suffix == ".part"]:
        return Result("wrong", f"left {left}")
    if (
        re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", words + last)
        or "secret" in words + errors
        or "\x1b[2J" in errors
    ):
        return Result("wrong", f"printed {words + last!r}"[:500])
    if status not in (0, 2, 3, 4) or len(last) > 2100 or status and not last.endswith((".", "…", "?")):
        return Result("wrong", f"status {status}: {last}")
    return Result("refused" if status else "survived", last)


def try_redirect(status: int, place: Path) -> Result:
    """Try a server that sends to another one: nothing may reach it."""
    other = LyingServer({})
    lie = partial(answer, body=b"", status=status, Location=f"{other.url}/system_stats")
    result, _ = run_once({"/system_stats": lie}, place)
    return Result("wrong", f"asked the other server for {other.requests}") if other.requests else result


def try_lies(lies: dict[str, bytes | Lie], place: Path) -> Result:
    """Try a run that may end in a refusal or not."""
    return run_once(lies, place)[0]


def try_mutations(seeds: list[int], place: Path) -> Result:
    """Try many changed answers and events; counts as said, or the first that ended badly."""
    refused, paths = 0, list(make_honest_answers())
    for seed in seeds:
        rng = random.Random(seed)
        lies: dict[str, bytes | Lie] = {}
        if rng.random() < 0.3:
            events = [mutate(event, rng) if rng.random() < 0.7 else event for event in EVENTS]
            frames = [frame_text(event) for event in events]
            lies["/ws"] = partial(speak, lambda frames=frames: iter(frames), 0)
        else:
            path = rng.choice(paths)
            lies[path] = json.dumps(mutate(make_honest_answers()[path], rng)).encode()
        result = run_once(lies, place / str(seed))[0]
        if result.end not in ("refused", "survived"):
            return Result(result.end, f"seed {seed}: {result.said}")
        refused += result.end == "refused"
    return Result("survived", str(refused))


def make_cases() -> Iterator[tuple[str, str, dict[str, bytes | Lie]]]:
    """Yield kind, name and lies of every case that is not random."""
    paths = ("/system_stats", "/object_info", "/prompt", "/queue", "/history")
    for path in (*paths, "/view"):
        for name, stall in STALLS.items():
            yield "servers that stall", f"{path} {name}", {path: stall}
    for path in paths:
        for name, body in BODIES.items():
            yield "servers that lie", f"{path} {name}", {path: body}
    for name, body in VIEWS.items():
        yield "files that are none", name, {"/view": body}
    for name, lie in SOCKETS.items():
        yield "WebSockets", name, {"/ws": lie}


def torture(folder: Path, seed: int, share: float, table: Table) -> None:
    """Every stall and lie, and many mutations of honest answers."""
    every = list(make_cases())
    step = max(1, round(0.6 / share)) if share < 1 else 1
    for number, (kind, name, lies) in enumerate(every[seed % step :: step]):
        place = folder / f"{number}"
        table.add(kind, name, run_forked(partial(try_lies, lies, place), memory=MEMORY))
    for status in (301, 302, 307, 308):
        place = folder / f"redirect{status}"
        table.add(
            "redirects with a password",
            str(status),
            run_forked(partial(try_redirect, status, place), memory=MEMORY),
        )
    together = 25
    for start in range(0, max(together, round(MUTATIONS * share)), together):
        seeds = [seed * 1_000_003 + start + n for n in range(together)]
        place = folder / f"mutated{start}"
        result = run_forked(partial(try_mutations, seeds, place), seconds=60, memory=MEMORY)
        if result.end != "survived":
            table.add("changed answers", f"{start}", result)
            continue
        for number in range(together):
            table.add(
                "changed answers", str(number), Result("refused" if number < int(result.said) else "survived")
            )
