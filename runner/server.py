"""A running ComfyUI, over its HTTP and WebSocket interface. Standard library only; every failure is a WorkflowError of one sentence."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import time
import uuid
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlencode, urlsplit, urlunsplit
from urllib.request import ProxyHandler, Request, build_opener

from .graph import WorkflowError, label, title_of
from .websocket import WebSocket

TIMEOUT = 120  # seconds for an answer: a server that loads a model is slow to give one
SHORT = 10  # seconds for a first answer, and for the last words to a job that is given up
TICK = 2  # seconds without news after which the server is asked what became of the job
PREVIEWS = (1, 4)  # the binary messages that carry a preview picture


class Unreachable(WorkflowError):
    """Nobody answers, or no longer. `job`: the id of the job that was queued there."""

    def __init__(self, sentence: str, job: str = ""):
        super().__init__(sentence)
        self.job = job


class Gone(WorkflowError):
    """The server does not know the job."""


class Rejected(WorkflowError):
    """The server does not take a prompt. `reply` is its answer: {"error", "node_errors": {node id: …}}."""

    def __init__(self, reply: dict, prompt: dict):
        super().__init__(" ".join(reasons(reply, prompt)))
        self.reply = reply


def reasons(reply: dict, prompt: dict) -> list[str]:
    """A sentence for each thing that the server found wrong, with the title of the node."""
    found = []
    for key, node in (reply.get("node_errors") or {}).items():
        owner = label(prompt, key) if key in prompt else f"node {key}"
        for error in node.get("errors", ()):
            name = (error.get("extra_info") or {}).get("input_name", "")
            where = owner + (f", input {name}" if name else "")
            details = str(error.get("details") or "").removeprefix(name).strip(" ,:-\n")
            found.append(f"{where}: {error.get('message')}{f': {details}' if details else ''}".rstrip(".") + ".")
    error = reply.get("error") or {}
    general = error.get("message", "") if isinstance(error, dict) else error
    return found or [f"ComfyUI does not take this workflow: {general or reply}".rstrip(".") + "."]


class Server:
    """A ComfyUI server by its address: "127.0.0.1:8188", "https://user:password@host/path"."""

    def __init__(self, url: str):
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
                raise ValueError
        except ValueError:  # urlsplit and its port have it too
            raise WorkflowError(f"--server {url} is not the address of a server, such as http://127.0.0.1:8188.") from None
        self.parts = parts._replace(netloc=parts.netloc.rpartition("@")[2], path=parts.path.rstrip("/"), query="", fragment="")
        self.url = urlunsplit(self.parts)
        self.headers = {}
        if parts.username:
            account = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self.headers["Authorization"] = f"Basic {base64.b64encode(account.encode()).decode()}"
        self.opener = build_opener(ProxyHandler({}))  # the WebSocket goes directly too

    # HTTP

    def ask(self, path: str, data: bytes | None = None, kind: str = "", timeout: float = TIMEOUT) -> bytes:
        """The body of an answer to GET, or to POST where there are data of a content type."""
        request = Request(self.url + path, data, {**self.headers, **({"Content-Type": kind} if kind else {})})
        try:
            with self.opener.open(request, timeout=timeout) as answer:
                return answer.read()
        except HTTPError as error:
            with error:
                body = error.read()
            if error.code == 400 and path == "/prompt":
                return body
            said = " ".join(body.decode("utf-8", "replace").split())[:200]
            raise WorkflowError(
                f"ComfyUI at {self.url} answered {error.code} to {request.get_method()} {path}: {said.rstrip('.')}."
            ) from error
        except (OSError, HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or repr(error)
            raise Unreachable(f"ComfyUI at {self.url} cannot be reached: {reason}.") from error

    def get(self, path: str, timeout: float = TIMEOUT) -> dict:
        """The JSON object of an answer to GET."""
        return self.read_json(path, self.ask(path, timeout=timeout))

    def post(self, path: str, data: dict, timeout: float = TIMEOUT) -> bytes:
        """The body of an answer to POST of a JSON object."""
        return self.ask(path, json.dumps(data).encode(), "application/json", timeout)

    def read_json(self, path: str, body: bytes) -> dict:
        """A body that must be a JSON object."""
        try:
            data = json.loads(body)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise WorkflowError(f"{self.url} does not answer as ComfyUI does (GET or POST {path}): is it the right address?")
        return data

    def greet(self) -> dict:
        """The server's own figures, in a short time: it is there."""
        return self.get("/system_stats", SHORT)

    def await_return(self, seconds: float) -> None:
        """Returns when the server answers. Raises Unreachable if it does not within so many seconds."""
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
        """Copies a picture into the server's "input" or "temp" folder -> how nodes name it there. Nothing is overwritten."""
        boundary = uuid.uuid4().hex
        name = re.sub(r'[\x00-\x1f"\\]', "_", picture.name)
        field = f'--{boundary}\r\nContent-Disposition: form-data; name="type"\r\n\r\n{folder}\r\n'
        file = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        head = f"{field}{file}Content-Type: application/octet-stream\r\n\r\n".encode()
        body = head + picture.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        path = "/upload/image"
        there = self.read_json(path, self.ask(path, body, f"multipart/form-data; boundary={boundary}"))
        place = "/".join(filter(None, (there.get("subfolder"), there["name"])))
        return place if folder == "input" else f"{place} [{folder}]"

    def view(self, file: dict) -> bytes:
        """The contents of an output file {"filename", "subfolder", "type"}."""
        query = {"filename": file["filename"], "subfolder": file.get("subfolder") or "", "type": file.get("type") or "output"}
        return self.ask(f"/view?{urlencode(query)}")

    def outcome(self, prompt_id: str) -> dict | None:
        """A job's entry in the history: {"outputs", "status": {"status_str", "messages"}, …}; None while it waits or runs."""
        queue = self.get("/queue")  # first: a job that ends between the two questions is in the history
        if any(prompt_id == job[1] for row in ("queue_running", "queue_pending") for job in queue.get(row, ())):
            return None
        entry = self.get(f"/history/{quote(prompt_id)}").get(prompt_id)
        if entry is None:
            raise Gone(f"The job is gone: it was deleted from the queue of {self.url}, or the server has started anew.")
        return entry

    def cancel(self, prompt_id: str) -> None:
        """Ends a job, whether it waits or runs; silently where that cannot be told to the server any more."""
        for path, data in (("/queue", {"delete": [prompt_id]}), ("/interrupt", {"prompt_id": prompt_id})):
            with contextlib.suppress(WorkflowError):
                self.post(path, data, SHORT)

    # Jobs

    def run(self, prompt: dict, extra: dict, on_event: Callable[[dict], None]) -> dict:
        """Queues a prompt and follows it to its end -> its entry in the history. A job that is not followed to its end is cancelled.

        extra: `extra_data` of the prompt. on_event: called with each event {"type", "data"} of the job; previews are
        {"type": "preview", "data": bytes}. Raises Rejected, Unreachable where the server is lost or has started anew, else WorkflowError.
        """
        prompt_id, client_id = str(uuid.uuid4()), uuid.uuid4().hex  # our own: known even if the answer never comes
        listener, cut = self.listen(client_id), False  # before the job, so that no event is missed
        try:
            request = {"prompt": prompt, "prompt_id": prompt_id, "client_id": client_id, "extra_data": extra}
            reply = self.read_json("/prompt", self.post("/prompt", request))
            prompt_id = reply.get("prompt_id", prompt_id)
            if reply.get("error") or reply.get("node_errors"):  # with node_errors alone it would run in part
                raise Rejected(reply, prompt)
            entry = None
            while entry is None:
                try:
                    message = listener.receive(TICK)
                except OSError:
                    listener.close()
                    time.sleep(0.5)
                    listener, message, cut = self.listen(client_id), None, True  # servers in between cut quiet connections
                event = self.read_event(message, prompt_id)
                if event:
                    on_event(event)
                if message is None or event and event["type"] == "executing" and event["data"].get("node") is None:
                    entry = self.outcome(prompt_id)  # events may be lost, the history is not
            return entry
        except Gone as error:
            if not cut:  # then somebody deleted it
                raise
            raise Unreachable(f"ComfyUI at {self.url} has started anew before the job ended.", prompt_id) from error
        except Unreachable as error:
            raise Unreachable(f"The connection to ComfyUI at {self.url} was lost before the job ended.", prompt_id) from error
        except BaseException:
            self.cancel(prompt_id)
            raise
        finally:
            listener.close()

    def listen(self, client_id: str) -> WebSocket:
        """The connection over which the server tells a client about its jobs."""
        try:
            return WebSocket(self.parts._replace(path=f"{self.parts.path}/ws", query=f"clientId={client_id}"), self.headers, SHORT)
        except OSError as error:
            raise Unreachable(f"ComfyUI at {self.url} cannot be reached: {error}.") from error

    @staticmethod
    def read_event(message: str | bytes | None, prompt_id: str) -> dict | None:
        """A message of the server as an event of this job; None for all others."""
        if isinstance(message, bytes):
            return {"type": "preview", "data": message[4:]} if int.from_bytes(message[:4], "big") in PREVIEWS else None
        try:
            event = json.loads(message or "null")
        except ValueError:
            return None
        data = event.get("data") if isinstance(event, dict) else None
        return event if isinstance(data, dict) and "type" in event and data.get("prompt_id") == prompt_id else None


def failure(entry: dict, prompt: dict) -> str | None:
    """What went wrong in a job, as "TITLE: sentence", from its entry in the history; None if nothing did."""
    status = entry.get("status") or {}
    if status.get("status_str") == "success":
        return None
    for kind, data in status.get("messages", ()):
        if kind in ("execution_error", "execution_interrupted"):
            node = prompt.get(str(data.get("node_id")))
            title = title_of(node) if node else data.get("node_type")
            if kind == "execution_interrupted":
                return f"{title}: the job was interrupted on the server."
            message, name = str(data.get("exception_message", "")).strip(), data.get("exception_type", "")
            return f"{title}: {message}" if name in ("ValueError", "FileNotFoundError") else f"{title}: {name}: {message}"
    return "The job failed on the server, which does not say why: its log does."
