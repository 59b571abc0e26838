"""Servers that lie, stall and leak, met by `run_workflow.py --server`.

It ends in time, with one clean sentence or good files.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import random
import re
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from runner import listener, server, websocket
from runner.command import main

from .forked import Result, Table, run_forked
from .lying_server import (
    BODIES,
    EVENTS,
    NAMES,
    REJECTION,
    SECONDS,
    SOCKETS,
    STALLS,
    VIEWS,
    Lie,
    LyingServer,
    answer,
    frame_text,
    make_honest_answers,
    make_picture,
    speak,
)

MUTATIONS = 1500  # of honest answers and events
MEMORY = 256 << 20  # bytes beyond what the parent has
ODD: tuple[object, ...] = (
    None, True, 0, -1, 10**400, float("nan"), float("inf"), "", "x", "\x1b[2J\x07", "a\nb", "\ud800",
    "x" * 20_000,
    [], {}, [[]], [None], {"a": {}}, [["a", "b"], {}], {"": None}, "../x", "/etc/x", "link", "link/x.png",
    "CON",
)  # fmt: skip
FLOW = {
    "1": {
        "class_type": "Paint",
        "inputs": {"text": "x", "image": ["4", 0]},
        "_meta": {"title": "Painter\x1b[2J"},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "art"}},
    "3": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    "4": {"class_type": "LoadImage", "inputs": {"image": "in.png"}},
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
            elif isinstance(place, dict) and rng.random() < 0.1:
                del place[key]
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
    (place / "in.png").write_bytes(make_picture())
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
        elif rng.random() < 0.1:
            body = json.dumps(mutate(REJECTION, rng)).encode()
            lies["/prompt"] = partial(answer, body=body, status=400)
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
    paths = ("/system_stats", "/object_info", "/upload/image", "/prompt", "/queue", "/history")
    for path in (*paths, "/view"):
        for name, stall in STALLS.items():
            yield "servers that stall", f"{path} {name}", {path: stall}
    for path in paths:
        for name, body in BODIES.items():
            yield "servers that lie", f"{path} {name}", {path: body}
    for name, body in VIEWS.items():
        yield "files that are none", name, {"/view": body}
    for name, file in NAMES.items():
        job = make_honest_answers()["/history/job"]
        job["job"]["outputs"]["2"]["images"] = [{"type": "output", **file}]  # type: ignore[index]
        yield "names of files", name, {"/history": json.dumps(job).encode()}
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
