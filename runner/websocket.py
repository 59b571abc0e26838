"""The client side of a WebSocket (RFC 6455) as far as it takes to listen: no extensions, no own messages.

ComfyUI tells which node runs, and its steps, in no other way. The code is ours as `websocket-client` takes a
frame of any length and has no deadline for a message; here every read has a bound, and what breaks the rules
ends the connection.
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

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
ACCEPT_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
POLL = 0.5  # seconds: on Windows Ctrl-C is not seen while a socket waits
LARGEST = 32 << 20  # bytes of a message: previews take less than one million
LONGEST_HEAD = 1 << 16  # bytes of the answer to the handshake


class WebSocket:
    """A connection that messages come from.

    Raises OSError where it cannot be made, breaks the rules, or ends.
    """

    def __init__(self, connection: socket.socket):
        """Take an open connection, with `shake_hands` to come."""
        self.socket = connection
        self.buffer = bytearray()
        self.fragments = bytearray()
        self.kind = TEXT

    def shake_hands(self, host: str, path: str, headers: dict[str, str], seconds: float) -> None:
        """Ask the server to speak WebSocket from here on."""
        key = base64.b64encode(os.urandom(16))
        own = {
            "Host": host, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key.decode(),
        }  # fmt: skip
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in {**own, **headers}.items())]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        deadline = time.monotonic() + seconds
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            if time.monotonic() > deadline:
                raise TimeoutError("timed out")
            if len(self.buffer) > LONGEST_HEAD:
                raise ConnectionError("its answer to the handshake has no end")
            self.fill()
        status, *rows = bytes(self.buffer[:end]).decode("latin-1").split("\r\n")
        del self.buffer[: end + 4]
        answers = {
            name.strip().lower(): value.strip() for name, _, value in (row.partition(":") for row in rows)
        }
        accept = base64.b64encode(hashlib.sha1(key + ACCEPT_KEY, usedforsecurity=False).digest()).decode()
        if status.split(" ")[1:2] != ["101"] or answers.get("sec-websocket-accept") != accept:
            raise ConnectionError(f"no WebSocket there, but {status[:100]!r}")

    def fill(self) -> None:
        """Append to the buffer what comes within the polling time."""
        self.socket.settimeout(POLL)
        try:
            data = self.socket.recv(1 << 16)
        except (TimeoutError, ssl.SSLWantReadError):
            return
        if not data:
            raise ConnectionError("the server closed the connection")
        self.buffer += data

    def receive(self, seconds: float) -> str | bytes | None:
        """Return the next message, or None if none was complete in time."""
        deadline = time.monotonic() + seconds
        while True:
            frame = self.take_frame()
            if frame is not None:
                final, opcode, payload = frame
                if opcode == CLOSE:
                    raise ConnectionError("the server closed the connection")
                if opcode == PING:
                    self.send(PONG, payload[:125])
                elif opcode != PONG:
                    self.kind = opcode or self.kind
                    self.fragments += payload
                    if len(self.fragments) > LARGEST:
                        raise ConnectionError("a message is too large")
                    if final:
                        message, self.fragments = bytes(self.fragments), bytearray()
                        return message.decode("utf-8", "replace") if self.kind == TEXT else message
            if time.monotonic() > deadline:  # after frames too: pings may never end
                return None
            if frame is None:
                self.fill()

    def take_frame(self) -> tuple[bool, int, bytes] | None:
        """Take the first frame out of the buffer, if it is there as a whole.

        Returns (whether it ends its message, opcode, payload).
        """
        if len(self.buffer) < 2:
            return None
        start, size = 2, self.buffer[1] & 0x7F
        if size >= 126:
            start, form = (4, ">H") if size == 126 else (10, ">Q")
            if len(self.buffer) < start:
                return None
            (size,) = struct.unpack(form, self.buffer[2:start])
        if size > LARGEST:
            raise ConnectionError("a message is too large")
        if len(self.buffer) < start + size:
            return None
        first, payload = self.buffer[0], bytes(self.buffer[start : start + size])
        del self.buffer[: start + size]
        return bool(first & 0x80), first & 0x0F, payload

    def send(self, opcode: int, payload: bytes) -> None:
        """Send a control frame (at most 125 bytes), masked as a client must."""
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        self.socket.settimeout(10)
        self.socket.sendall(bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked)

    def close(self) -> None:
        """Say goodbye, if anyone still listens."""
        with contextlib.suppress(OSError):
            self.send(CLOSE, struct.pack(">H", 1000))
        self.socket.close()
