"""A limit on the time that a whole run takes."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TimedOut(KeyboardInterrupt):
    """The time is up. No handler of errors may take it for one of its own, so it is none."""


@contextmanager
def limit_time(seconds: float | None) -> Iterator[None]:
    """Raise TimedOut in the middle of what takes longer than so many seconds; None for no limit.

    For the main thread.
    """
    if seconds is None:
        yield
        return
    expired = False

    def interrupt() -> None:
        nonlocal expired
        expired = True
        if hasattr(signal, "pthread_kill"):  # wakes a system call too
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        else:
            _thread.interrupt_main()

    def answer(number: int, frame: FrameType | None) -> None:
        if expired:
            raise TimedOut(f"It was not done within {seconds:g} seconds, the limit that --timeout sets.")
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, answer)
    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)
