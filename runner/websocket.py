"""The client side of a WebSocket (RFC 6455), as much as it takes to hear a ComfyUI server: no extensions, no own messages.

It is our own because the pack needs no network library otherwise, and because a plain socket answers Ctrl-C at once.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket
import ssl
import struct
import time
from urllib.parse import SplitResult

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
ACCEPT_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
POLL = 0.5  # seconds: on Windows Ctrl-C is not seen while a socket waits


class WebSocket:
    """A connection that messages come from. Raises OSError where it cannot be made or ends."""

    def __init__(self, url: SplitResult, headers: dict[str, str], timeout: float):
        """url: http or https, with path and query. headers: what the handshake says beside its own."""
        secure = url.scheme == "https"
        self.buffer = bytearray()
        self.fragments = bytearray()
        self.kind = TEXT
        self.socket = socket.create_connection((url.hostname, url.port or (443 if secure else 80)), timeout)
        try:
            if secure:
                self.socket = ssl.create_default_context().wrap_socket(self.socket, server_hostname=url.hostname)
            self.shake_hands(url, headers, timeout)
        except BaseException:
            self.close()
            raise

    def shake_hands(self, url: SplitResult, headers: dict[str, str], timeout: float) -> None:
        """Asks the server to speak WebSocket from here on."""
        key = base64.b64encode(os.urandom(16))
        own = {"Host": url.netloc.rpartition("@")[2], "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        lines = [f"GET {url.path or '/'}?{url.query} HTTP/1.1", *(f"{name}: {value}" for name, value in {**own, **headers}.items())]
        self.socket.sendall("\r\n".join([*lines, f"Sec-WebSocket-Key: {key.decode()}", "", ""]).encode())
        deadline = time.monotonic() + timeout
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            if not self.fill() and time.monotonic() > deadline:
                raise TimeoutError("timed out")
        status, *rows = bytes(self.buffer[:end]).decode("latin-1").split("\r\n")
        del self.buffer[: end + 4]
        answers = {name.strip().lower(): value.strip() for name, _, value in (row.partition(":") for row in rows)}
        accept = base64.b64encode(hashlib.sha1(key + ACCEPT_KEY, usedforsecurity=False).digest()).decode()
        if status.split(" ")[1:2] != ["101"] or answers.get("sec-websocket-accept") != accept:
            raise ConnectionError(f"no WebSocket there, but {status!r}")

    def fill(self) -> bool:
        """Whether the buffer got more bytes within the polling time."""
        self.socket.settimeout(POLL)
        try:
            data = self.socket.recv(1 << 16)
        except (TimeoutError, ssl.SSLWantReadError):
            return False
        if not data:
            raise ConnectionError("the server closed the connection")
        self.buffer += data
        return True

    def receive(self, timeout: float) -> str | bytes | None:
        """The next message, or None if none came in time."""
        deadline = time.monotonic() + timeout
        while True:
            frame = self.frame()
            if frame is None:
                if not self.fill() and time.monotonic() > deadline:
                    return None
                continue
            final, opcode, payload = frame
            if opcode == CLOSE:
                raise ConnectionError("the server closed the connection")
            if opcode == PING:
                self.send(PONG, payload)
            elif opcode != PONG:
                self.kind = opcode or self.kind
                self.fragments += payload
                if final:
                    message, self.fragments = bytes(self.fragments), bytearray()
                    return message.decode("utf-8", "replace") if self.kind == TEXT else message

    def frame(self) -> tuple[bool, int, bytes] | None:
        """The first frame of the buffer, taken out, if it is there as a whole: (last of its message, opcode, payload)."""
        if len(self.buffer) < 2:
            return None
        start, size = 2, self.buffer[1] & 0x7F
        if size >= 126:
            start, form = (4, ">H") if size == 126 else (10, ">Q")
            if len(self.buffer) < start:
                return None
            (size,) = struct.unpack(form, self.buffer[2:start])
        if len(self.buffer) < start + size:
            return None
        first, payload = self.buffer[0], bytes(self.buffer[start : start + size])
        del self.buffer[: start + size]
        return bool(first & 0x80), first & 0x0F, payload

    def send(self, opcode: int, payload: bytes) -> None:
        """Sends a control frame (at most 125 bytes), masked as a client must."""
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        self.socket.settimeout(10)
        self.socket.sendall(bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked)

    def close(self) -> None:
        """Says goodbye, if anyone still listens."""
        with contextlib.suppress(OSError):
            self.send(CLOSE, struct.pack(">H", 1000))
        self.socket.close()
