"""Runs one case in a child process with bounds on memory and time, and says how it ended."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

SECONDS = 20  # of processor time
CLOCK = 10  # times as long on the clock, but for the time in which a child waits for a processor
MEMORY = 2 << 30  # bytes beyond what the parent has
ENDS = ("refused", "survived", "lost", "executed", "hung", "wrong")


LONGEST_REFUSAL = 5.0  # seconds of processor time
MOST_FOR_REFUSAL = 256.0  # MiB beyond what the process had before


@dataclass(frozen=True)
class Result:
    """How a case ended (one of `ENDS`), what it said, and what it took:

    seconds of processor time, MiB at the peak.
    """

    end: str
    said: str = ""
    seconds: float = 0.0
    memory: float = 0.0


def judge_error(error: BaseException, *names: object) -> Result:
    """`refused` for one clear sentence that names what it is about, else `lost`."""
    said = str(error)
    clear = (
        isinstance(error, (ValueError, OSError))
        and "\n" not in said
        and 20 <= len(said) <= 1500
        and said.endswith(".")
    )
    if clear and not isinstance(error, UnicodeError) and all(str(name) in said for name in names):
        return Result("refused", said)
    return Result(
        "lost", f"{type(error).__name__}: {said[:400]} | {' '.join(traceback.format_exc()[-600:].split())}"
    )


def run_forked(case: Callable[[], Result], seconds: int = SECONDS, memory: int = MEMORY) -> Result:
    """Run the result of a case that runs in a child:

    `hung` beyond its time, with what it was doing; `lost` if the child dies otherwise.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        answer(case, writer, seconds, memory)
    os.close(writer)
    started, received, late = time.monotonic(), b"", False
    with os.fdopen(reader, "rb", buffering=0) as stream:
        while not late:
            left = started + CLOCK * seconds + measure_wait(child) - time.monotonic()
            if select.select([stream], [], [], max(0, left))[0]:
                if not (piece := stream.read(1 << 16)):
                    break
                received += piece
            late = left <= 0
        if late:
            os.kill(child, signal.SIGUSR1)  # it writes where it is
            time.sleep(1)
            os.kill(child, signal.SIGKILL)
            received = stream.read(1 << 16) or b""
    status = os.waitpid(child, 0)[1]
    if late:
        return Result("hung", " ".join(received.decode("utf-8", "replace").split())[:2000])
    if received:
        return Result(**json.loads(received))
    slow = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
    return Result("hung" if slow else "lost", f"the child ended with status {status}")


def measure_wait(process: int) -> float:
    """Measure the seconds in which a process was ready to run and others had the processors; 0 where Linux
    does not tell.
    """
    try:
        return int(Path(f"/proc/{process}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def answer(case: Callable[[], Result], writer: int, seconds: int, memory: int) -> None:
    """What the child does; it never returns."""
    # the threads that OpenMP started in the parent are not there after a fork: waiting for them would hang
    torch.set_num_threads(1)
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        faulthandler.register(signal.SIGUSR1, file=writer)
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + memory, now + memory))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        try:
            result = case()
        except BaseException as error:  # whatever it is, the parent must hear of it
            trace = " ".join(traceback.format_exc()[-600:].split())
            result = Result("lost", f"{type(error).__name__}: {str(error)[:400]} | {trace}")
        taken = time.process_time() - started
        memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        answer = {"end": result.end, "said": result.said[:2000], "seconds": taken, "memory": memory}
        os.write(writer, json.dumps(answer).encode("utf-8", "replace"))
    finally:
        os._exit(0)


class Table:
    """Counts of how cases ended, by kind, those that ended badly, and what the refusals took."""

    def __init__(self):
        self.rows: dict[str, Counter] = {}
        self.refusals: dict[str, list[Result]] = {}
        self.bad: list[str] = []

    def add(self, kind: str, name: str, result: Result, bounded: bool = False) -> None:
        """Count one case. bounded:

        whether a refusal that takes too long, or too much memory, counts as hung.
        """
        if result.end == "refused":
            self.refusals.setdefault(kind, []).append(result)
            if bounded and (result.seconds > LONGEST_REFUSAL or result.memory > MOST_FOR_REFUSAL):
                said = (
                    f"{result.seconds:.1f} s and {result.memory:.0f} MiB until it was refused: {result.said}"
                )
                result = Result("hung", said)
        self.rows.setdefault(kind, Counter())[result.end] += 1
        if result.end not in ("refused", "survived"):
            self.bad.append(f"{kind} · {name} · {result.end}: {result.said}")
            print(self.bad[-1], file=sys.stderr, flush=True)

    def __str__(self) -> str:
        """A Markdown table."""
        lines = ["| kind | tried | " + " | ".join(ENDS) + " |", "|---|" + "--:|" * (len(ENDS) + 1)]
        total = Counter()
        for kind, counts in self.rows.items():
            total.update(counts)
            lines.append(
                f"| {kind} | {counts.total()} | " + " | ".join(str(counts[end]) for end in ENDS) + " |"
            )
        return "\n".join(
            [*lines, f"| all | {total.total()} | " + " | ".join(str(total[end]) for end in ENDS) + " |"]
        )

    def costs(self) -> str:
        """A Markdown table of what refusals took, median and worst."""
        lines = [
            "| refusals | number | median s | worst s | median MiB | worst MiB |",
            "|---|--:|--:|--:|--:|--:|",
        ]
        for kind, results in self.refusals.items():
            seconds, memory = [result.seconds for result in results], [result.memory for result in results]
            figures = f"{median(seconds):.3f} | {max(seconds):.2f} | {median(memory):.0f} | {max(memory):.0f}"
            lines.append(f"| {kind} | {len(results)} | {figures} |")
        return "\n".join(lines)


@contextlib.contextmanager
def set_environment(**values: str):
    """Environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
