"""A running ComfyUI, over its HTTP and WebSocket interface. Every failure is a WorkflowError of one sentence.

What becomes of a job is asked for over HTTP: the history is the truth. The WebSocket only tells how it goes
on, so a job needs it neither to start nor to end.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from types import NoneType
from urllib.parse import quote, unquote, urlencode, urlsplit, urlunsplit

from vd_core.foreign import printable

from .errors import JobError, WorkflowError
from .graph import get_title, name_node
from .http import Answered, ask, fits, parse_json
from .listener import Listener

TIMEOUT = 120  # seconds for an answer: a server that loads a model is slow to give one
SHORT = 10  # seconds for a first answer, and for the last words to a job that is given up
TICK = 2  # seconds after which the server is asked what became of the job
LONGEST_FILE = 600  # seconds for an output file
LARGEST = 128 << 20  # bytes of an answer; what many node packs tell of their nodes takes some ten million
LARGEST_FILE = 4 << 30  # bytes of an output file
MESSAGES = 20  # sentences of a refusal that are shown
LONGEST_REASON = 1000  # characters of what a node says
ENDS = ("execution_error", "execution_interrupted")
START = 64  # bytes that tell what a file is
HTML = re.compile(rb"\s*<(!doctype\s+html|html)\b", re.IGNORECASE)
# How files of a kind start: a server's web page must not be kept as a picture.
SIGNATURES = {
    ".png": b"\x89PNG", ".jpg": b"\xff\xd8\xff", ".jpeg": b"\xff\xd8\xff", ".webp": b"RIFF", ".gif": b"GIF8",
}  # fmt: skip

# The shapes of answers, as far as they are used.
TEXTS = (str, NoneType)
SHAPES: dict[str, object] = {
    "/system_stats": {},
    "/object_info": {str: dict},
    "/queue": {"queue_running?": [list], "queue_pending?": [list]},
    "/history": {
        str: {
            "outputs?": ({str: (dict, NoneType)}),
            "status?": {"status_str?": TEXTS, "messages?": [list]},
        }
    },
    "/prompt": {
        "prompt_id?": str, "error?": (str, dict, NoneType), "node_errors?": (dict, list, NoneType),
    },
    "/upload/image": {"name": str, "subfolder?": TEXTS},
}  # fmt: skip
NODE_ERRORS = {str: {"errors?": [{"message?": TEXTS, "details?": TEXTS, "extra_info?": (dict, NoneType)}]}}


class Unreachable(WorkflowError):
    """Nobody answers as ComfyUI does, or no longer. `job`: the id of the job that was queued there."""

    def __init__(self, sentence: str, job: str = ""):
        super().__init__(sentence)
        self.job = job


class Gone(JobError):
    """The server does not know the job."""


class Rejected(WorkflowError):
    """The server does not take a prompt. `reply` is its answer: {"error", "node_errors": {node id: …}}."""

    def __init__(self, reply: dict, prompt: dict):
        super().__init__(" ".join(list_reasons(reply, prompt)[:MESSAGES]))
        self.reply = reply


def list_reasons(reply: dict, prompt: dict) -> list[str]:
    """Return a sentence for each thing that the server found wrong, with the title of the node."""
    found, errors = [], reply.get("node_errors")
    for key, node in errors.items() if fits(errors, NODE_ERRORS) else ():  # type: ignore[union-attr]
        owner = name_node(prompt, key) if key in prompt else f"node {printable(key)}"
        for error in node.get("errors", ()):
            name = printable(str((error.get("extra_info") or {}).get("input_name", "")))
            details = str(error.get("details") or "").removeprefix(name).strip(" ,:-\n")
            details = printable(details, LONGEST_REASON)
            said = f"{printable(str(error.get('message')))}{f': {details}' if details else ''}"
            found.append(f"{owner}{f', input {name}' if name else ''}: {said}".rstrip(".") + ".")
    error = reply.get("error") or {}
    general = error.get("message", "") if isinstance(error, dict) else error
    said = printable(str(general or reply)).rstrip(".")
    return found or [f"ComfyUI does not take this workflow: {said}."]


class Server:
    """A ComfyUI server by its address: "127.0.0.1:8188", "https://user:password@host/path"."""

    def __init__(self, url: str):
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
                raise ValueError
        except ValueError:  # urlsplit and its port have it too
            shown = printable(url.rpartition("@")[2])  # without the password
            raise WorkflowError(
                f"--server {shown} is not the address of a server, such as http://127.0.0.1:8188."
            ) from None
        path = quote(parts.path.rstrip("/"), safe="/%")
        self.parts = parts._replace(netloc=parts.netloc.rpartition("@")[2], path=path, query="", fragment="")
        self.url = urlunsplit(self.parts)
        self.headers = {}
        if parts.username:
            account = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self.headers["Authorization"] = f"Basic {base64.b64encode(account.encode()).decode()}"

    # HTTP

    def stream(
        self,
        path: str,
        data: bytes | None = None,
        kind: str = "",
        seconds: float | None = None,
        most: int | None = None,
    ) -> Iterator[bytes]:
        """Yield the body of an answer to GET, or to POST where there are data of a content type.

        seconds, most: how long it may take, how many bytes it may have; default: TIMEOUT, LARGEST.

        Raises Unreachable where there is no whole answer in time, WorkflowError for one that says no.
        """
        seconds, most = seconds or TIMEOUT, most or LARGEST
        headers = {**self.headers, **({"Content-Type": kind} if kind else {})}
        try:
            yield from ask(self.parts, self.parts.path + path, headers, data, seconds, most)
        except Answered as error:
            if error.status == 400 and path == "/prompt":
                yield error.body
                return
            method = "GET" if data is None else "POST"
            said = f"{error.status} to {method} {path.partition('?')[0]}: {error.reason.rstrip('.')}"
            if 300 <= error.status < 400:
                raise Unreachable(f"ComfyUI at {self.url} answered {said}; it is not followed.") from error
            raise WorkflowError(f"ComfyUI at {self.url} answered {said}.") from error
        except (OSError, HTTPException) as error:
            reason = printable(" ".join(str(error).split()) or repr(error)).rstrip(".")
            raise Unreachable(f"ComfyUI at {self.url} cannot be reached: {reason}.") from error

    def get(self, path: str, seconds: float | None = None) -> dict:
        """Return the JSON object of an answer to GET."""
        return self.read_json(path, b"".join(self.stream(path, seconds=seconds)))

    def post(self, path: str, data: dict, seconds: float | None = None) -> bytes:
        """Return the body of an answer to POST of a JSON object."""
        return b"".join(self.stream(path, json.dumps(data).encode(), "application/json", seconds))

    def read_json(self, path: str, body: bytes) -> dict:
        """Parse a body that must be a JSON object of the shape that ComfyUI gives it there."""
        try:
            data = parse_json(body)
        except ValueError:
            data = None
        shape = SHAPES["/history" if path.startswith("/history/") else path]
        if not isinstance(data, dict) or not fits(data, shape):
            raise Unreachable(
                f"{self.url} does not answer as ComfyUI does (GET or POST {path}): is it the right address?"
            )
        return data

    def greet(self) -> dict:
        """Return the server's own figures, in a short time: it is there."""
        return self.get("/system_stats", SHORT)

    def await_return(self, seconds: float) -> None:
        """Return when the server answers. Raises Unreachable if it does not within so many seconds."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.greet()
                return
            except Unreachable:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.5)

    def upload(self, picture: Path, folder: str) -> str:
        """Copy a picture into the server's "input" or "temp" folder -> how nodes name it there.

        Nothing is overwritten.
        """
        boundary = uuid.uuid4().hex
        name = re.sub(r'[\x00-\x1f"\\]', "_", picture.name)
        field = f'--{boundary}\r\nContent-Disposition: form-data; name="type"\r\n\r\n{folder}\r\n'
        file = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        head = f"{field}{file}Content-Type: application/octet-stream\r\n\r\n".encode("utf-8", "replace")
        body = head + picture.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        path = "/upload/image"
        answer = b"".join(self.stream(path, body, f"multipart/form-data; boundary={boundary}"))
        there = self.read_json(path, answer)
        place = "/".join(filter(None, (there.get("subfolder"), there["name"])))
        return place if folder == "input" else f"{place} [{folder}]"

    def view(self, file: dict) -> Iterator[bytes]:
        """Yield the contents of an output file {"filename", "subfolder", "type"}.

        Raises JobError for an empty file, and for a web page in place of a picture.
        """
        name = file["filename"]
        query = {
            "filename": name,
            "subfolder": file.get("subfolder") or "",
            "type": file.get("type") or "output",
        }
        query = {key: str(value).encode("utf-8", "replace").decode() for key, value in query.items()}
        pieces = self.stream(f"/view?{urlencode(query)}", seconds=LONGEST_FILE, most=LARGEST_FILE)
        head = b""
        while len(head) < START and (piece := next(pieces, b"")):
            head += piece
        signature = SIGNATURES.get(Path(name).suffix.lower())
        if not (head.startswith(signature) if signature else head and not HTML.match(head)):
            found = f"but {head[:16]!r}" if head else "but empty"
            raise JobError(f"The server's {printable(name)} is not what its name says, {found}.")
        yield head
        yield from pieces

    def find_outcome(self, prompt_id: str) -> dict | None:
        """Return a job's entry in the history, {"outputs", "status", …}; None while it waits or runs."""
        queue = self.get("/queue")  # first: a job that ends between the two questions is in the history
        jobs = [job for row in ("queue_running", "queue_pending") for job in queue.get(row, ())]
        if any(prompt_id in job[1:2] for job in jobs):
            return None
        entry = self.get(f"/history/{quote(prompt_id, safe='', errors='replace')}").get(prompt_id)
        if entry is None:
            raise Gone(
                f"The job is gone: it was deleted from the queue of {self.url}, or the server has restarted."
            )
        return entry

    def cancel(self, prompt_id: str) -> None:
        """End a job, whether it waits or runs; silently where that cannot be told to the server any more."""
        for path, data in (("/queue", {"delete": [prompt_id]}), ("/interrupt", {"prompt_id": prompt_id})):
            with contextlib.suppress(WorkflowError):
                self.post(path, data, SHORT)

    # Jobs

    def run(self, prompt: dict, extra: dict, on_event: Callable[[dict], None]) -> dict:
        """Queue a prompt and follow it to its end -> its entry in the history.

        A job that is not followed is cancelled.

        extra: `extra_data` of the prompt. on_event: called with each event {"type", "data"} of the job;
        previews are {"type": "preview", "data": bytes}. Raises Rejected, Unreachable where the server is lost
        or has restarted, else WorkflowError.
        """
        prompt_id = str(uuid.uuid4())  # our own: known even if the answer never comes
        with contextlib.closing(Listener(self.parts, self.headers, prompt_id)) as listener:
            try:
                listener.connect()  # before the job, so that no event is missed
                request = {
                    "prompt": prompt,
                    "prompt_id": prompt_id,
                    "client_id": listener.client,
                    "extra_data": extra,
                }
                reply = self.read_json("/prompt", self.post("/prompt", request))
                listener.prompt_id = prompt_id = reply.get("prompt_id", prompt_id)
                # with node_errors alone it would run in part
                if reply.get("error") or reply.get("node_errors"):
                    raise Rejected(reply, prompt)
                entry, asked = None, time.monotonic()
                while entry is None:
                    event = listener.receive(TICK)
                    if event:
                        on_event(event)
                    ended = event and event["type"] == "executing" and event["data"].get("node") is None
                    if ended or time.monotonic() - asked >= TICK:  # events may be lost, the history is not
                        entry, asked = self.find_outcome(prompt_id), time.monotonic()
                return entry
            except Gone as error:
                if not listener.lost:  # then somebody deleted it
                    raise
                raise Unreachable(
                    f"ComfyUI at {self.url} has restarted before the job ended.", prompt_id
                ) from error
            except Unreachable as error:
                raise Unreachable(
                    f"The connection to ComfyUI at {self.url} was lost before the job ended.", prompt_id
                ) from error
            except BaseException:
                self.cancel(prompt_id)
                raise


def find_failure(entry: dict, prompt: dict) -> str | None:
    """Return what went wrong in a job, as "TITLE: sentence", from its entry in the history.

    None if nothing did.
    """
    status = entry.get("status") or {}
    if status.get("status_str") == "success":
        return None
    for message in status.get("messages", ()):
        if (
            fits(message, [(str, dict)])
            and len(message) == 2
            and message[0] in ENDS
            and isinstance(message[1], dict)
        ):
            kind, data = message
            node = prompt.get(str(data.get("node_id")))
            title = get_title(node) if node else printable(str(data.get("node_type")))
            if kind == "execution_interrupted":
                return f"{title}: the job was interrupted on the server."
            said = printable(str(data.get("exception_message", "")).strip(), LONGEST_REASON, lines=True)
            name = printable(str(data.get("exception_type", "")))
            return (
                f"{title}: {said}"
                if name in ("ValueError", "FileNotFoundError")
                else f"{title}: {name}: {said}"
            )
    return "The job failed on the server, which does not say why: its log does."
