"""Hear how a job goes on at a ComfyUI, over its WebSocket."""

from __future__ import annotations

import contextlib
import time
import uuid
from types import NoneType
from typing import Any
from urllib.parse import SplitResult

from .http import connect, cut_after, fits, parse_json
from .websocket import WebSocket

SHORT = 10  # seconds until the connection must be there
ATTEMPTS = 5  # to hear of one job
PREVIEWS, TEXT = (1, 4), 3  # the binary messages that carry a preview picture, and what a node says
TEXTS = (str, NoneType)
# The shapes of the events that are used.
EVENTS: dict[str, object] = {
    "executing": {"node?": TEXTS, "display_node?": TEXTS},
    "progress": {"node?": TEXTS, "value": (int, float), "max": (int, float)},
    "executed": {"node": str, "output?": (dict, NoneType)},
    "text": {"node": str, "text": str},
}


class Listener:
    """Hears how a job goes on. Where it cannot, or the server breaks the rules, the job goes on unheard."""

    def __init__(self, url: SplitResult, headers: dict[str, str], prompt_id: str):
        self.url, self.headers, self.prompt_id, self.client = url, headers, prompt_id, uuid.uuid4().hex
        self.socket: WebSocket | None = None
        self.attempts, self.lost = ATTEMPTS, False  # `lost`: whether a connection has ended

    def connect(self) -> None:
        """Open the connection over which the server tells a client about its jobs."""
        self.attempts -= 1
        with contextlib.suppress(OSError):
            connection = connect(self.url, SHORT)
            try:
                with cut_after(connection, SHORT):
                    listening = WebSocket(connection)
                    path = f"{self.url.path}/ws?clientId={self.client}"
                    listening.shake_hands(self.url.netloc, path, self.headers, SHORT)
            except BaseException:
                connection.close()
                raise
            self.socket = listening

    def receive(self, seconds: float) -> dict | None:
        """Return the next event of the job; None for news of others, or if there is none in time."""
        if self.socket is None:
            time.sleep(min(0.5, seconds))
            if self.attempts > 0:  # servers in between cut quiet connections
                self.connect()
            return None
        try:
            return self.read_event(self.socket.receive(seconds))
        except OSError:
            self.close()
            self.lost = True
            return None

    def read_event(self, message: str | bytes | None) -> dict | None:
        """Read a message of the server as an event of this job; None for all others."""
        if isinstance(message, bytes):
            return read_binary(int.from_bytes(message[:4], "big"), message[4:])
        try:
            event: Any = parse_json((message or "null").encode("utf-8", "replace"))
        except ValueError:
            return None
        if not fits(event, {"type": str, "data": {"prompt_id": str}}):
            return None
        ours = event["data"]["prompt_id"] == self.prompt_id
        return event if ours and fits(event["data"], EVENTS.get(event["type"], {})) else None

    def close(self) -> None:
        """End the connection."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None


def read_binary(kind: int, content: bytes) -> dict | None:
    """Read a binary message as an event: a preview, or what a node says; None for all others."""
    if kind in PREVIEWS:
        return {"type": "preview", "data": content}
    length = int.from_bytes(content[:4], "big")
    node, text = content[4 : 4 + length], content[4 + length :]
    if kind != TEXT or not node or not text:
        return None
    return {
        "type": "text",
        "data": {"node": node.decode("utf-8", "replace"), "text": text.decode("utf-8", "replace")},
    }
