"""A long run of mixed jobs from two clients at once: nothing grows, every result is that of a lone run, every
failure is answered.

VD_SOAK=1000 python -m pytest tests/live/test_soak.py -rP
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

import graph
import pytest
from assets import write_assets
from graph import (
    APPLE,
    DUAL,
    IMAGE,
    ROCKET,
    STAR,
    STRAWBERRY,
    TEXT,
    Node,
    empty,
    empty_text,
    ksampler,
    node,
    picture,
    prompt_of,
    sentence,
)
from PIL import Image

from runner.errors import WorkflowError
from runner.listener import Listener
from runner.server import Gone, Server, find_failure

pytestmark = [
    pytest.mark.comfyui,
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts by means of /proc"),
]

JOBS = int(os.environ.get("VD_SOAK", "60"))
SEEDS = 3  # of each flow; each flow with each seed runs alone once
FIRST = 0.25  # share of the jobs after which the server has loaded all that it ever loads
# what it may grow by afterwards: Python's objects, bytes, open files, threads
OBJECTS, GROWTH, FILES, THREADS = (
    2000,
    40e6,
    6,
    3,
)
PATIENCE = 300  # seconds


def drawn(latent: Node, context: Node, seed: int, **changes) -> Node:
    """Pictures by KSampler."""
    return picture(ksampler(IMAGE[0], context, latent, seed=seed, **{"steps": 2, **changes}))


def multi_flow(context: Node, seed: int) -> Node:
    """Pictures by the Multi-Flow Sampler."""
    inputs = {
        "seed": seed,
        "steps": 2,
        "cfg": 2.0,
        "sampler": "ddim",
        "eta": 0.3,
        "fidelity": 0.0,
        "noise": "per sample",
    }
    return picture(
        node(
            "VD_Sampler",
            model=IMAGE[0],
            positive=context[0],
            negative=context[1],
            latent_image=empty(width=96),
            **inputs,
        )
    )


def written(context: Node, seed: int) -> Node:
    """Texts."""
    return sentence(ksampler(TEXT[0], context, empty_text(2), seed=seed, steps=3))


FLOWS = {
    "text to image": lambda seed: drawn(empty(), APPLE, seed),
    "text to image, two": lambda seed: drawn(empty(2), STAR, seed, sampler_name="euler"),
    "text to image, wide": lambda seed: drawn(empty(width=128, height=64), APPLE, seed, cfg=3.0),
    "variation": lambda seed: drawn(empty(), STRAWBERRY, seed),
    "variation, high": lambda seed: drawn(empty(height=96), ROCKET, seed),
    "dual context": lambda seed: drawn(empty(), DUAL, seed),
    "multi-flow": lambda seed: multi_flow(DUAL, seed),
    "caption": lambda seed: written(ROCKET, seed),
    "text variation": lambda seed: written(APPLE, seed),
}
LONG = 10_000  # steps, the most that KSampler takes
BAD = {  # graph -> a part of the answer
    "of no size": lambda seed: (drawn(empty(width=0), APPLE, seed), "width"),
    "of no class": lambda seed: (node("PreviewAny", source=node("NoSuchNode")), "NoSuchNode"),
    "without an input": lambda seed: (node("VAEDecode", vae=IMAGE[1]), "output"),
    "text latent": lambda seed: (drawn(empty_text(), APPLE, seed), "needs an Empty Latent Image"),
    "image latent": lambda seed: (
        sentence(ksampler(TEXT[0], ROCKET, empty(), seed=seed)),
        "needs an Empty Text Latent",
    ),
    "negative ratio": lambda seed: (drawn(empty(), graph.blend(APPLE, ROCKET, -1.0), seed), "ratio"),
    "no such picture": lambda seed: (
        drawn(empty(), graph.seen(node("LoadImage", image="none.png")), seed),
        "none.png",
    ),
}


class Soak:
    """Two clients, what they saw, and what the server needed meanwhile."""

    def __init__(self, server, count: int):
        self.server, self.url, rng = server, server.client.url, random.Random(0)
        ways = ["run"] * 12 + ["fail"] * 3 + ["interrupt", "delete", "disconnect", "disconnect"]
        self.jobs = [(number, rng.choice(ways), rng.randrange(1 << 30)) for number in range(count)]
        self.seen: dict[tuple[str, int], set] = {}  # results of each flow and seed
        self.ends, self.wrong, self.measured, self.lock = Counter(), [], [], threading.Lock()

    def work(self) -> None:
        """One client: takes jobs until there are none."""
        server = Server(self.url)
        while True:
            with self.lock:
                if not self.jobs:
                    return
                number, way, seed = self.jobs.pop(0)
                if number % 10 == 0:
                    self.measured.append((number, *needs(self.server)))
            try:
                getattr(self, way)(server, random.Random(seed))
            except Exception as error:  # the test says which
                self.wrong.append((number, way, f"{type(error).__name__}: {error}"))
            self.ends[way] += 1

    def flow(self, rng: random.Random) -> tuple[tuple[str, int], dict]:
        """(its name and seed, prompt) of a job that works."""
        key = rng.choice(list(FLOWS)), rng.randrange(SEEDS)
        return key, prompt_of(FLOWS[key[0]](key[1]))

    def run(self, server, rng: random.Random) -> None:
        """A job that works."""
        key, prompt = self.flow(rng)
        self.keep(key, server, server.run(prompt, {}, lambda event: None))

    def keep(self, key: tuple[str, int], server, entry: dict) -> None:
        """Remembers what a job gave."""
        if entry["status"]["status_str"] != "success":
            raise AssertionError(f"{key}: {entry['status']}")
        found = contents(server, entry)
        with self.lock:
            self.seen.setdefault(key, set()).add(found)

    def fail(self, server, rng: random.Random) -> None:
        """A job that cannot work, and must be answered with a sentence."""
        name = rng.choice(list(BAD))
        output, part = BAD[name](rng.randrange(SEEDS))
        prompt = prompt_of(output)
        try:
            said = find_failure(server.run(prompt, {}, lambda event: None), prompt)
        except WorkflowError as error:
            said = str(error)
        if not said or part not in said:
            raise AssertionError(f"{name}: {said!r}")

    def interrupt(self, server, rng: random.Random) -> None:
        """A job of hours that is interrupted at one of its first steps."""
        prompt, after, told = (
            prompt_of(drawn(empty(), APPLE, rng.randrange(SEEDS), steps=LONG)),
            rng.randint(1, 4),
            [],
        )

        def stop(event: dict) -> None:
            if event["type"] == "progress" and event["data"]["value"] >= after and not told:
                told.append(server.post("/interrupt", {"prompt_id": event["data"]["prompt_id"]}))

        said = find_failure(server.run(prompt, {}, stop), prompt)
        if "the job was interrupted on the server" not in str(said):
            raise AssertionError(said)

    def delete(self, server, rng: random.Random) -> None:
        """A job that is deleted from the queue while another one of ours runs."""
        blocker, victim = (str(uuid.uuid4()) for _ in range(2))
        for key, seed in ((blocker, 100), (victim, 101)):
            queue(server, key, prompt_of(drawn(empty(), APPLE, seed, steps=LONG)))
        server.post("/queue", {"delete": [victim]})
        server.cancel(blocker)
        until(lambda: gone(server, victim))
        until(lambda: gone(server, blocker) or server.find_outcome(blocker) is not None)

    def disconnect(self, server, rng: random.Random) -> None:
        """A client that goes away; its job is done nevertheless."""
        (key, prompt), job = self.flow(rng), str(uuid.uuid4())
        with contextlib.closing(Listener(server.parts, server.headers, job)) as listener:
            listener.connect()
            queue(server, job, prompt, client_id=listener.client)
            listener.receive(rng.uniform(0, 0.5))
        self.keep(key, server, until(lambda: server.find_outcome(job)))


def queue(server, job: str, prompt: dict, **more: str) -> None:
    """Queues a job and leaves it alone."""
    answer = json.loads(server.post("/prompt", {"prompt": prompt, "prompt_id": job, **more}))
    if answer.get("error") or answer["prompt_id"] != job:
        raise AssertionError(answer)


def until(condition):
    """What a condition gives when it holds."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.1)
    return value


def gone(server, job: str) -> bool:
    """Whether the server does not know a job, and says so."""
    try:
        server.find_outcome(job)
    except Gone:
        return True
    return False


def contents(server, entry: dict) -> str:
    """A hash of the pixels and texts of a job."""
    found = hashlib.sha256()
    for key in sorted(entry["outputs"]):
        for file in entry["outputs"][key].get("images", ()):
            with Image.open(io.BytesIO(b"".join(server.view(file)))) as image:
                found.update(f"{image.size}".encode() + image.tobytes())
        found.update(json.dumps(entry["outputs"][key].get("text", ())).encode())
    return found.hexdigest()


def needs(server) -> tuple[int, int, int]:
    """Bytes in memory, open files and threads of the server."""
    folder = Path(f"/proc/{process(server)}")
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) << 10, len(list((folder / "fd").iterdir())), int(status["Threads"])


def held(server) -> tuple[int, int]:
    """Python's objects, and the bytes in memory, without ComfyUI's history of jobs and what glibc keeps for
    later."""
    server.client.post("/history", {"clear": True})
    (text,) = server.queue(prompt_of(node("VDLive_Memory", after=0))).texts
    report = json.loads(text)
    return report["objects"], report["trimmed"]


def process(server) -> int:
    """The server's process, a child of this one."""
    port = str(server.client.parts.port)
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            if port in Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
                return int(pid)
    raise AssertionError("the server has ended")


def work(soak: Soak) -> None:
    """Two clients that take jobs until there are none."""
    clients = [threading.Thread(target=soak.work) for _ in range(2)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()


def test_soak(server, capsys):
    write_assets(server.base / "models", server.base / "input")
    soak, started = Soak(server, JOBS), time.monotonic()
    jobs, first, kept = soak.jobs, round(JOBS * FIRST), []
    for soak.jobs in (jobs[:first], jobs[first:]):
        work(soak)
        soak.measured.append((JOBS if kept else first, *needs(server)))
        kept.append(held(server))
    seconds = time.monotonic() - started
    assert not soak.wrong, soak.wrong[:5]
    # alone, each after another flow, so that nothing is left of it
    for key, found in sorted(soak.seen.items()):
        alone = contents(server.client, server.run(prompt_of(FLOWS[key[0]](key[1]))))
        assert found == {alone}, key
    warm, later = ([row for row in soak.measured if (row[0] <= first) == early] for early in (True, False))
    grown = [max(row[column] for row in later) - max(row[column] for row in warm) for column in (2, 3)]
    objects, size = (after - before for before, after in zip(*kept, strict=True))
    with capsys.disabled():
        print(
            f"\n{JOBS} jobs of two clients in {seconds:.0f} s: {dict(soak.ends)}; {len(soak.seen)} flows and "
            "seeds equal to lone runs"
        )
        rows = (
            f"after {number} jobs: {m / 1e6:.0f} MB, {f} files, {t} threads"
            for number, m, f, t in soak.measured[:: max(1, JOBS // 100)]
        )
        print(*rows, sep="\n")
        print(
            f"without the history after {first} and {JOBS} jobs: {kept[0][1] / 1e6:.0f} and "
            f"{kept[1][1] / 1e6:.0f} MB, {objects} more of {kept[0][0]} objects"
        )
    assert objects < OBJECTS and size < GROWTH and grown[0] <= FILES and grown[1] <= THREADS, (
        objects,
        size,
        grown,
    )
