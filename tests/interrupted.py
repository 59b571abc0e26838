"""A command in a child process that is killed, stopped or runs out of room before any change of a folder."""

import io
import json
import os
import resource
import select
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import torch
from watch import CHANGES, WRITING

SECONDS = 600  # until a command counts as hanging
Command = Callable[[list[str]], int]


class Ending(NamedTuple):
    """How a command ended: its exit status, None where it was killed, and all that it printed."""

    status: int | None
    said: str

    @property
    def sentence(self) -> str:
        """The last line."""
        return (self.said.strip().splitlines() or [""])[-1]


class Child:
    """A command that runs in a child. `end` waits for it."""

    def __init__(self, command: Command, arguments: list[str], before: Callable[[], None] = lambda: None):
        self.reader, writer = os.pipe()
        self.id = os.fork()
        if not self.id:
            answer(command, arguments, before, writer)
        os.close(writer)

    def wait_until_it_stops(self) -> None:
        """Wait until it stops itself, or ends."""
        os.waitid(os.P_PID, self.id, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def end(self) -> Ending:
        """Let it go on where it had stopped, and wait for its end. Raises AssertionError where it hangs."""
        os.kill(self.id, signal.SIGCONT)
        received = b""
        with os.fdopen(self.reader, "rb", buffering=0) as stream:
            while ready := select.select([stream], [], [], SECONDS)[0]:
                if not (piece := stream.read(1 << 16)):
                    break
                received += piece
        if not ready:
            os.kill(self.id, signal.SIGKILL)
        os.waitpid(self.id, 0)
        assert ready, "it hangs"
        return Ending(*json.loads(received)) if received else Ending(None, "")


def answer(command: Command, arguments: list[str], before: Callable[[], None], writer: int) -> None:
    """Do what the child does; never return."""
    said = io.StringIO()
    try:
        torch.set_num_threads(1)
        with redirect_stdout(said), redirect_stderr(said):
            before()
            status = command(arguments)
    except BaseException:
        status = 70  # a traceback
        said.write(traceback.format_exc())
    os.write(writer, json.dumps([status, said.getvalue()[-60_000:]]).encode())
    os._exit(0)


def signal_at_change(folder: Path, number: int, signal_number: int) -> Callable[[], None]:
    """Return what sends this process a signal before its change of that number in a folder, from 1 on.

    Changes are files that are opened for writing, renamed, linked or removed, and folders that are made.
    """

    def install() -> None:
        seen = 0

        def hook(event: str, arguments: tuple) -> None:
            nonlocal seen
            opens = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
            if (opens or event in CHANGES) and str(folder) in str(arguments[:2]):
                seen += 1
                if seen == number:
                    os.kill(os.getpid(), signal_number)

        sys.addaudithook(hook)

    return install


def limit_files(size: int) -> Callable[[], None]:
    """Return what lets no file of this process grow beyond so many bytes, as where a disk is full."""

    def install() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return install
