"""Runs workflow files on a ComfyUI server, with the same options and the same printing as `runner` has for this process."""

from __future__ import annotations

import re
import sys
from contextlib import closing
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from . import graph
from .client import Server, failure
from .results import numbered, outside, write_texts


def run_file(
    workflow: Path, server: Server, output: Path, assignments: list[str], seed: int | None, pictures: Path, uploads: str = "input"
) -> None:
    """Reads and changes a workflow file, runs it on a server, and prints what it fetched from there.

    assignments: NODE.INPUT=VALUE each. pictures: where input pictures are looked for last. uploads: the server's folder ("input" or
    "temp") that they are copied to. Raises WorkflowError.
    """
    server.greet()
    classes = server.get("/object_info")
    catalogue = graph.Catalogue(
        {name: about.get("input", {}) for name, about in classes.items()},
        f"is of the class {{name}}, which the ComfyUI at {server.url} does not have: install the node pack there that brings it.",
    )
    prompt, canvas = graph.prepare(workflow, catalogue, assignments, seed)
    upload_pictures(prompt, catalogue, [workflow.resolve().parent, pictures], server, uploads)
    silent = {key for key, node in prompt.items() if not classes[node["class_type"]].get("output_node")}
    with closing(Screen(prompt, silent, server, output)) as screen:
        entry = server.run(prompt, {"extra_pnginfo": canvas}, screen.show)
        for key, results in (entry.get("outputs") or {}).items():
            screen.deliver(key, results)
    if sentence := failure(entry, prompt):
        raise graph.WorkflowError(sentence)


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
        self.bar, self.running, self.delivered = None, None, silent

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
        if key in self.delivered or not results:
            return
        self.delivered.add(key)
        self.close()
        for files in results.values():
            for file in files if isinstance(files, list) else ():
                if isinstance(file, dict) and isinstance(file.get("filename"), str):
                    print(self.fetch(file), flush=True)
        if texts := results.get("text"):
            write_texts(self.title(key), [str(text) for text in texts], self.output)

    def fetch(self, file: dict) -> Path:
        """Writes an output file of the server below the output folder, under the next number that is free here."""
        name = f"{file.get('subfolder') or ''}/{file['filename']}".lstrip("/").replace("\\", "/")
        if outside(name):
            raise graph.WorkflowError(f"The server names an output {name!r}, which leaves the output folder.")
        path = PurePosixPath(name)
        stem = "preview" if file.get("type") == "temp" else re.sub(r"_\d{5,}_?$", "", path.stem)
        data = self.server.view(file)
        target = numbered(self.output / path.parent, stem, f"_{path.suffix}")
        target.write_bytes(data)
        return target

    def close(self) -> None:
        """Wipes the progress bar off."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
