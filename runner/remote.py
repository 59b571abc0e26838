"""Run workflow files on a ComfyUI server, with the options and results that `in_process` has here."""

from __future__ import annotations

import re
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from vd_core.files import check_writable, resolve_inside, save_numbered
from vd_core.foreign import printable

from . import graph
from .errors import JobError, WorkflowError
from .http import fits
from .prepare import LOAD_CONTEXT, Changes, find_pictures, prepare
from .results import Results
from .server import TEXTS, Server, Unreachable, find_failure

RESTARTS = 3  # of a server in the middle of one job; a job that kills it time and again is given up
LONGEST = 500  # characters of what a node says while it runs
MOST_STEPS = 1_000_000_000  # of a progress bar
FILE = {"filename": str, "subfolder?": TEXTS, "type?": TEXTS}  # an output file, as the server names it


def run_file(
    workflow: Path,
    server: Server,
    results: Results,
    changes: Changes,
    folders: list[Path],
    uploads: str = "input",
    wait: float = 0,
) -> None:
    """Read and change a workflow file, run it on a server, and show what was fetched from there.

    folders: where input pictures are looked for. uploads: the server's folder ("input" or "temp") that they
    are copied to. wait: how many seconds a server that is lost in the middle may take to come back; what was
    not fetched from it by then is made again. Raises WorkflowError.
    """
    classes, catalogue = read_catalogue(server)
    prompt, canvas = prepare(workflow, catalogue, changes)
    check_writable(results.output, "--output")
    check_contexts(prompt, catalogue, changes.pictures)
    upload_pictures(prompt, catalogue, folders, server, uploads)
    silent = {key for key, node in prompt.items() if not classes[node["class_type"]].get("output_node")}
    with closing(Screen(prompt, silent, server, results)) as screen:
        entry = follow(screen, {"extra_pnginfo": canvas}, wait)
    if sentence := find_failure(entry, prompt):
        raise JobError(sentence)


def read_catalogue(server: Server) -> tuple[dict, graph.Catalogue]:
    """Ask a server what classes of nodes it has -> (its own words, the catalogue)."""
    server.greet()
    classes = server.get("/object_info")
    inputs = {name: about.get("input") or {} for name, about in classes.items()}
    absent = (
        f"is of the class {{name}}, which the ComfyUI at {server.url} does not have: install the node pack "
        "there that brings it."
    )
    return classes, graph.Catalogue(
        {name: entry if isinstance(entry, dict) else {} for name, entry in inputs.items()}, absent
    )


def follow(screen: Screen, extra: dict, wait: float) -> dict:
    """Run a job to its end, again where the server was lost -> its entry in the history."""
    server, restarts = screen.server, 0
    while prompt := screen.list_unfinished():
        try:
            entry = server.run(prompt, extra, screen.show)
            for key, results in (entry.get("outputs") or {}).items():
                screen.deliver(key, results)
            return entry
        except Unreachable as error:
            if not wait or restarts == RESTARTS:
                raise
            restarts += 1
            screen.close()
            print(
                f"{error} It has {wait:g} seconds to come back; what is here is not made again.",
                file=sys.stderr,
                flush=True,
            )
            server.await_return(wait)
            server.cancel(error.job)  # if it was only slow to answer
    return {"status": {"status_str": "success"}}


def check_contexts(prompt: dict, catalogue: graph.Catalogue, folder: Path | None) -> None:
    """Raise WorkflowError for a context that lies in the folder of --input and not on the server."""
    for key, node in prompt.items():
        if folder is None or node["class_type"] != LOAD_CONTEXT:
            continue
        name, title = node["inputs"].get("file"), graph.name_node(prompt, key)
        there = catalogue.inputs(LOAD_CONTEXT, title)["file"].choices
        if isinstance(name, str) and name not in there and graph.find_file(name, [folder]):
            raise WorkflowError(
                f"{title}: only pictures can be sent to a server, so copy {printable(name)} into the input "
                "folder there."
            )


def upload_pictures(
    prompt: dict, catalogue: graph.Catalogue, folders: list[Path], server: Server, uploads: str
) -> None:
    """Copy the pictures that lie here to the server, and name them in the prompt as they are called there.

    A picture that does not lie here may be one of the server's own.
    """
    for key, name in find_pictures(prompt, catalogue):
        inputs = prompt[key]["inputs"]
        value = inputs.get(name)
        if isinstance(value, str) and (path := graph.find_file(value, folders)):
            inputs[name] = server.upload(path, uploads)


class Screen:
    """Shows the events of one job: titles and progress bars on stderr, results, each once, on stdout."""

    def __init__(self, prompt: dict, silent: set[str], server: Server, results: Results):
        """Keep what is known before the job runs. silent: ids of nodes that are no output nodes; what they
        show is for the canvas."""
        self.prompt, self.server, self.results, self.silent = prompt, server, results, silent
        self.bar: tqdm | None = None
        self.running: str | None = None
        self.said: set[tuple] = set()  # node and text; a server tells them all its clients
        self.delivered: set[str] = set()  # nodes that are done with
        self.fetched: Counter[str] = Counter()  # files of each node

    def title(self, key: str) -> str:
        """Return the title of a node; one that another node made while it ran has none of its own."""
        return graph.get_title(self.prompt[key]) if key in self.prompt else f"node {printable(key)}"

    def show(self, event: dict) -> None:
        """Show an event of the server, as `Server.run` gives it."""
        kind, data = event["type"], event["data"]
        if kind == "executing" and data.get("node") is not None:
            key = str(data.get("display_node") or data["node"])
            if key != self.running:
                self.close()
                self.running = key
                print(self.title(key), file=sys.stderr, flush=True)
        elif kind == "progress" and 0 <= data["value"] <= data["max"] <= MOST_STEPS and data["max"]:
            if self.bar is None or self.bar.total != data["max"]:
                self.close()
                self.bar = tqdm(desc=self.title(str(data.get("node"))), total=data["max"], leave=False)
            self.bar.update(data["value"] - self.bar.n)
        elif (
            kind == "text"
            and data["node"] == self.running
            and (said := tuple(data.values())) not in self.said
        ):
            self.close()
            self.said.add(said)
            print(f"{self.title(data['node'])}: {printable(data['text'], LONGEST)}", file=sys.stderr)
        elif kind == "executed":
            self.deliver(data["node"], data.get("output"))

    def deliver(self, key: str, shown: dict | None) -> None:
        """Fetch and show the files and texts of a node, unless that was done before."""
        if key in self.silent | self.delivered or not shown:
            return
        self.close()
        files = [file for row in shown.values() if isinstance(row, list) for file in row if fits(file, FILE)]
        for file in files[self.fetched[key] :]:
            self.results.show_file(key, self.title(key), self.fetch(file))
            self.fetched[key] += 1
        texts = shown.get("text")
        if texts and isinstance(texts, (str, list)):
            lines = [texts] if isinstance(texts, str) else [str(text) for text in texts]
            self.results.show_texts(key, self.title(key), lines)
        self.delivered.add(key)

    def list_unfinished(self) -> dict:
        """Return what is left of the prompt: all but the output nodes whose results are here; {} if all are.

        An output node that another node takes something from stays.
        """
        inputs = [value for node in self.prompt.values() for value in node["inputs"].values()]
        links = [str(value[0]) for value in inputs if isinstance(value, list) and value]
        left = {key: node for key, node in self.prompt.items() if key not in self.delivered or key in links}
        return left if not self.delivered or left.keys() - self.silent - self.delivered else {}

    def fetch(self, file: dict) -> Path:
        """Write an output file of the server below the output folder, under the next number free here."""
        output = self.results.output
        name = f"{file.get('subfolder') or ''}/{file['filename']}".lstrip("/").replace("\\", "/")
        folder, last = resolve_inside(output, name, "The server's output")
        stem, ending = PurePosixPath(last).stem, PurePosixPath(last).suffix
        stem = "preview" if file.get("type") == "temp" else re.sub(r"_[0-9]{5,}_?$", "", stem)
        try:
            saved = save_numbered(
                folder, stem, f"_{ending}", lambda opened: opened.writelines(self.server.view(file))
            )
        except OSError as error:
            raise OSError(f"{str(error).rstrip('.')}. The server keeps it as {name}.") from error
        return output / saved.relative_to(output.resolve())

    def close(self) -> None:
        """Wipe the progress bar off."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
