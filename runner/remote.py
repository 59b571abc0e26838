"""Runs workflow files on a ComfyUI server, with the same options and the same printing as `runner` has for this process."""

from __future__ import annotations

import re
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from vd_core.files import check_writable, resolve_inside, save_numbered

from . import graph
from .results import write_texts
from .server import Server, Unreachable, failure

RESTARTS = 3  # of a server in the middle of one job; a job that kills it time and again is given up


def run_file(
    workflow: Path, server: Server, output: Path, assignments: list[str], seed: int | None, pictures: Path,
    uploads: str = "input", wait: float = 0,
) -> None:  # fmt: skip
    """Reads and changes a workflow file, runs it on a server, and prints what it fetched from there.

    assignments: NODE.INPUT=VALUE each. pictures: where input pictures are looked for last. uploads: the server's folder ("input" or
    "temp") that they are copied to. wait: how many seconds a server that is lost in the middle may take to come back; what was not
    fetched from it by then is made again. Raises WorkflowError.
    """
    server.greet()
    classes = server.get("/object_info")
    catalogue = graph.Catalogue(
        {name: about.get("input", {}) for name, about in classes.items()},
        f"is of the class {{name}}, which the ComfyUI at {server.url} does not have: install the node pack there that brings it.",
    )
    prompt, canvas = graph.prepare(workflow, catalogue, assignments, seed)
    check_writable(output, "--output")
    upload_pictures(prompt, catalogue, [workflow.resolve().parent, pictures], server, uploads)
    silent = {key for key, node in prompt.items() if not classes[node["class_type"]].get("output_node")}
    with closing(Screen(prompt, silent, server, output)) as screen:
        entry = follow(screen, {"extra_pnginfo": canvas}, wait)
    if sentence := failure(entry, prompt):
        raise graph.WorkflowError(sentence)


def follow(screen: Screen, extra: dict, wait: float) -> dict:
    """Runs a job to its end, again where the server was lost -> its entry in the history."""
    server, restarts = screen.server, 0
    while prompt := screen.unfinished():
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
            print(f"{error} It has {wait:g} seconds to come back; what is here is not made again.", file=sys.stderr, flush=True)
            server.await_return(wait)
            server.cancel(error.job)  # if it was only slow to answer
    return {"status": {"status_str": "success"}}


def upload_pictures(prompt: dict, catalogue: graph.Catalogue, folders: list[Path], server: Server, uploads: str) -> None:
    """Copies the pictures that lie here to the server, and names them in the prompt as they are called there. A picture that does not
    lie here may be one of the server's own."""
    for key, node in prompt.items():
        for name, entry in catalogue.inputs(node["class_type"], graph.label(prompt, key)).items():
            value = node["inputs"].get(name)
            if entry.options.get("image_upload") and isinstance(value, str) and (path := graph.picture(value, folders)):
                node["inputs"][name] = server.upload(path, uploads)


class Screen:
    """Shows the events of one job: titles and progress bars on stderr, results, each once, on stdout."""

    def __init__(self, prompt: dict, silent: set[str], server: Server, output: Path):
        """silent: the ids of nodes that are no output nodes; what they show is for the canvas."""
        self.prompt, self.server, self.output = prompt, server, output
        self.bar, self.running, self.silent = None, None, silent
        self.delivered, self.fetched = set(), Counter()  # nodes that are done with, files of each node

    def title(self, key: str) -> str:
        """The title of a node; one that another node made while it ran has none of its own."""
        return graph.title_of(self.prompt[key]) if key in self.prompt else f"node {key}"

    def show(self, event: dict) -> None:
        """An event of the server, as `Server.run` gives it."""
        kind, data = event["type"], event["data"]
        if kind == "executing" and data.get("node") is not None:
            key = str(data.get("display_node") or data["node"])
            if key != self.running:
                self.close()
                self.running = key
                print(self.title(key), file=sys.stderr, flush=True)
        elif kind == "progress" and data.get("max"):
            if self.bar is None or self.bar.total != data["max"]:
                self.close()
                self.bar = tqdm(desc=self.title(str(data.get("node"))), total=data["max"], leave=False)
            self.bar.update(data["value"] - self.bar.n)
        elif kind == "executed":
            self.deliver(str(data["node"]), data.get("output"))

    def deliver(self, key: str, results: dict | None) -> None:
        """Fetches and prints the files and texts of a node, unless that was done before."""
        if key in self.silent | self.delivered or not results:
            return
        self.close()
        files = [file for row in results.values() if isinstance(row, list) for file in row]
        files = [file for file in files if isinstance(file, dict) and isinstance(file.get("filename"), str)]
        for file in files[self.fetched[key] :]:
            print(self.fetch(file), flush=True)
            self.fetched[key] += 1
        if texts := results.get("text"):
            write_texts(self.title(key), [str(text) for text in texts], self.output)
        self.delivered.add(key)

    def unfinished(self) -> dict:
        """The prompt without the output nodes whose results are here, unless another node takes something from them; {} if all are here."""
        links = [value[0] for node in self.prompt.values() for value in node["inputs"].values() if isinstance(value, list) and value]
        left = {key: node for key, node in self.prompt.items() if key not in self.delivered or key in links}
        return left if not self.delivered or left.keys() - self.silent - self.delivered else {}

    def fetch(self, file: dict) -> Path:
        """Writes an output file of the server below the output folder, under the next number that is free here."""
        name = f"{file.get('subfolder') or ''}/{file['filename']}".lstrip("/").replace("\\", "/")
        folder, _ = resolve_inside(self.output, name, "The server's output")
        path = PurePosixPath(name)
        stem = "preview" if file.get("type") == "temp" else re.sub(r"_\d{5,}_?$", "", path.stem)
        data = self.server.view(file)
        try:
            saved = save_numbered(folder, stem, f"_{path.suffix}", lambda file: file.write(data))
        except OSError as error:
            raise OSError(f"{str(error).rstrip('.')}. The server keeps it as {name}.") from error
        return self.output / saved.relative_to(self.output.resolve())

    def close(self) -> None:
        """Wipes the progress bar off."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
