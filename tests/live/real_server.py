"""A real ComfyUI, started for a test, and what becomes of the prompts that it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runner import launcher
from runner.pack import ROOT
from runner.server import Rejected, Server, find_failure

HERE = Path(__file__).parent


@dataclass
class Result:
    """What became of a queued prompt."""

    status: str  # "success", "error" or "rejected"
    # {node id: its ui}, such as {"3": {"images": [{"filename", "subfolder", "type"}]}}
    outputs: dict = field(default_factory=dict)
    error: dict | None = (
        # of a failed run: {"node_id", "node_type", "exception_type", "exception_message", "traceback", …}
        None
    )
    validation: dict | None = None  # of a rejected prompt: {"error", "node_errors"}
    sentence: str | None = None  # what run_workflow.py says of either
    # (node id, value, max) of each progress event
    progress: list[tuple[str, int, int]] = field(default_factory=list)
    previews: list[bytes] = field(default_factory=list)  # as they came: 4 bytes for the format, then the file

    @property
    def texts(self) -> list[str]:
        """The texts that output nodes show."""
        return [text for ui in self.outputs.values() for text in ui.get("text", ())]


@dataclass(frozen=True)
class ComfyUI:
    """The running server. `base` is its base directory: models/, input/, output/, temp/ and custom_nodes/ lie
    there."""

    client: Server  # for all else: .url, .get, .post, .view, .upload
    base: Path

    @property
    def log(self) -> Path:
        """The file with what it prints."""
        return self.base / "server.log"

    def run(self, prompt: dict, on_event: Callable[[dict], None] = lambda event: None) -> dict:
        """Queues a prompt in API format -> its entry in the history when it has ended. on_event: see
        `Server.run`. Raises Rejected."""
        return self.client.run(prompt, {}, on_event)

    def queue(self, prompt: dict, on_event: Callable[[dict], None] = lambda event: None) -> Result:
        """The same, with all that can be known of it."""
        result = Result("rejected")

        def listen(event: dict) -> None:
            if event["type"] == "preview":
                result.previews.append(event["data"])
            elif event["type"] == "progress":
                result.progress.append((event["data"]["node"], event["data"]["value"], event["data"]["max"]))
            on_event(event)

        try:
            entry = self.run(prompt, listen)
        except Rejected as error:
            result.validation, result.sentence = error.reply, str(error)
            return result
        result.status, result.outputs = entry["status"]["status_str"], entry["outputs"]
        result.sentence = find_failure(entry, prompt)
        ends = ("execution_error", "execution_interrupted")
        result.error = next((data for kind, data in entry["status"]["messages"] if kind in ends), None)
        return result


@contextmanager
def started(checkout: Path, base: Path, packs: Sequence[str]) -> Iterator[ComfyUI]:
    """Start a server with this pack and some of the packs in tests/live/custom_nodes. Nothing is written into
    the checkout."""
    for name in ("custom_nodes", "models", "input", "user"):
        (base / name).mkdir()
    for pack in packs:
        (base / "custom_nodes" / pack).symlink_to(HERE / "custom_nodes" / pack, target_is_directory=True)
    arguments = ["--base-directory", str(base), "--disable-api-nodes", "--preview-method", "latent2rgb"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        # tiny tensors on a busy machine: threads would only wait for each other
        patch.setenv("OMP_NUM_THREADS", "1")
        with launcher.launch(checkout, ROOT, base, arguments) as running:
            yield ComfyUI(running, base)
