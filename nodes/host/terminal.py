"""What the host without ComfyUI shows while it works."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def show_progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on the terminal: call what this yields with (done, total). It appears with the
    first call and is wiped off at the end, after an error too, so that no message shares its line."""
    bar = None

    def report(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(desc=title, total=total, leave=False)
        bar.update(done - bar.n)

    try:
        yield report
    finally:
        if bar is not None:
            bar.close()


def tell(sentence: str) -> None:
    """Log a sentence, which the terminal shows; "" says nothing."""
    if sentence:
        logging.getLogger(__name__).warning(sentence)
