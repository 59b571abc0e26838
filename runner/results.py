"""Show what a workflow made, on stdout: paths and texts for people, a JSON object per result for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from vd_core.files import save_numbered, shorten_name
from vd_core.foreign import printable

LONGEST = 10_000  # characters of a text that the terminal shows; its file has all of them


class Results:
    """The results of one run, shown as they come."""

    def __init__(self, output: Path, as_json: bool = False, given: Sequence[str] = ()):
        """Name the folder that takes texts, beside the pictures. given: what `--set` said."""
        self.output, self.as_json = output, as_json
        self.given = {"set": list(given)} if given else {}

    def show_file(self, key: str, title: str, path: Path) -> None:
        """Show that a node wrote a file."""
        if self.as_json:
            self.print_json(node=key, title=title, file=str(path), **self.given)
        else:
            print(path, flush=True)

    def show_texts(self, key: str, title: str, texts: list[str]) -> None:
        """Show the texts of a node, and write them to one file."""
        if not self.as_json:  # first: whatever becomes of the file, they can be read
            print(*(printable(text, LONGEST, lines=True) for text in texts), sep="\n", flush=True)
        stem = shorten_name(re.sub(r"[^\w-]+", "-", title).strip("-")) or "text"
        content = "".join(f"{text}\n" for text in texts).encode("utf-8", "replace")
        path = save_numbered(self.output, stem, ".txt", lambda file: file.write(content))
        if self.as_json:
            self.print_json(node=key, title=title, file=str(path), **self.given, texts=texts)
        else:
            print(path, flush=True)

    def show_failure(self, sentence: str, status: int) -> None:
        """Show to programs, as the last result, why a run failed; people read it on stderr."""
        if self.as_json:
            self.print_json(error=sentence, status=status)

    @staticmethod
    def print_json(**entry: object) -> None:
        """Print one object on one line."""
        print(json.dumps(entry), flush=True)
