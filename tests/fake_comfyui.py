"""A ComfyUI server as far as a client can see it, on a free port of this machine. What a job does is up to
the test."""

import base64
import contextlib
import hashlib
import json
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from made_up_nodes import node

PICTURE = b"\x89PNG the bytes of a picture"
OBJECT_INFO = {
    "Paint": {
        "input": {
            "required": {
                "text": ["STRING", {"default": ""}],
                "seed": ["INT", {"default": 0, "control_after_generate": True}],
                "style": [["flat", "round"]],
            },
            "optional": {"image": ["IMAGE"]},
        },
        "output_node": False,
    },
    "LoadImage": {
        "input": {"required": {"image": [["example.png"], {"image_upload": True}]}},
        "output_node": False,
    },
    "SaveImage": {
        "input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {}]}},
        "output_node": True,
    },
    "PreviewAny": {"input": {"required": {"source": ["*", {}]}}, "output_node": True},
}


class FakeComfyUI:
    """The server and what it was told. `job(fake, prompt_id, prompt)` runs in a thread of its own for each
    prompt that is queued."""

    def __init__(self, job=None, rejection=None, port=0):
        self.job, self.rejection = job or succeed, rejection
        self.object_info = OBJECT_INFO
        self.requests, self.uploads, self.deleted, self.interrupted = [], {}, [], []
        self.history, self.running, self.pending = {}, [], []
        self.sockets = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                fake.get(self, urlsplit(self.path))

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                fake.post(self, urlsplit(self.path).path, body)

        self.http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Dies, as when the machine is switched off."""
        self.http.shutdown()
        self.http.server_close()
        self.hang_up()

    def hang_up(self):
        """Cuts the WebSockets."""
        while self.sockets:
            with contextlib.suppress(OSError):  # the client was first
                self.sockets.pop().shutdown(2)

    # HTTP

    def answer(self, handler, data=None, status=200):
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def get(self, handler, url):
        self.requests.append(url.path)
        query = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        if url.path == "/ws":
            self.shake_hands(handler)
        elif url.path == "/system_stats":
            self.answer(handler, {"system": {}})
        elif url.path == "/object_info":
            self.answer(handler, self.object_info)
        elif url.path == "/queue":
            rows = {"queue_running": self.running, "queue_pending": self.pending}
            self.answer(
                handler, {name: [[0, key, {}, {}, []] for key in keys] for name, keys in rows.items()}
            )
        elif url.path.startswith("/history/"):
            key = url.path.removeprefix("/history/")
            self.answer(handler, {key: self.history[key]} if key in self.history else {})
        elif url.path == "/view":
            self.viewed = query
            self.answer(handler, PICTURE)
        else:
            self.answer(handler, b"nothing here", 404)

    def post(self, handler, path, body):
        self.requests.append(path)
        if path == "/upload/image":
            self.uploads["body"] = body
            self.answer(handler, {"name": "in (1).png", "subfolder": "", "type": "input"})
            return
        data = json.loads(body)
        if path == "/prompt":
            self.prompted = data
            if self.rejection:
                self.answer(handler, self.rejection, 400 if "error" in self.rejection else 200)
                return
            self.pending.append(data["prompt_id"])
            threading.Thread(target=self.work, args=(data["prompt_id"], data["prompt"]), daemon=True).start()
            self.answer(handler, {"prompt_id": data["prompt_id"], "number": 1, "node_errors": {}})
        elif path == "/queue":
            self.deleted += data["delete"]
            self.answer(handler)
        elif path == "/interrupt":
            self.interrupted.append(data["prompt_id"])
            self.answer(handler)

    # WebSocket

    def shake_hands(self, handler):
        key = handler.headers["Sec-WebSocket-Key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        handler.send_response(101)
        handler.send_header("Upgrade", "websocket")
        handler.send_header("Connection", "Upgrade")
        handler.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key).digest()).decode())
        handler.close_connection = True
        self.sockets.append(handler.connection)  # before the client hears of it, and queues a job
        handler.end_headers()
        with contextlib.suppress(OSError):
            while handler.connection.recv(1 << 16):  # until the client goes
                pass

    def frame(self, payload, opcode=1, final=True):
        """Send one frame."""
        size = len(payload)
        length = (
            bytes([size])
            if size < 126
            else struct.pack(">BH", 126, size)
            if size < 1 << 16
            else struct.pack(">BQ", 127, size)
        )
        self.sockets[-1].sendall(bytes([opcode | (0x80 if final else 0)]) + length + payload)

    def tell(self, kind, **data):
        """Send an event."""
        self.frame(json.dumps({"type": kind, "data": data}).encode())

    # Jobs

    def work(self, key, prompt):
        """Do the job; if that fails, so does the server, or the client would wait for ever."""
        try:
            self.job(self, key, prompt)
        except Exception:
            self.close()
            raise

    def start(self, key):
        """Note that the job runs."""
        self.pending.remove(key)
        self.running.append(key)

    def end(self, key, outputs=None, messages=(), say=True):
        """Note that the job has ended; `say`: and tell the client."""
        status = "error" if messages else "success"
        self.history[key] = {
            "outputs": outputs or {},
            "status": {"status_str": status, "messages": list(messages)},
        }
        self.running.remove(key)
        if say:
            self.tell("executing", node=None, prompt_id=key)


def succeed(fake, key, prompt):
    """Do a job that paints with progress, saves a picture and shows a text."""
    fake.tell("status", status={"exec_info": {"queue_remaining": 1}})  # goes to all clients
    fake.start(key)
    fake.tell("executing", node="1", display_node="1", prompt_id=key)
    for value in (1, 2, 3):
        fake.tell("progress", node="1", value=value, max=3, prompt_id=key)
        fake.frame(struct.pack(">II", 1, 1) + PICTURE, opcode=2)
    image = {"filename": "art_00007_.png", "subfolder": "sub", "type": "output"}
    fake.tell("executing", node="2", display_node="2", prompt_id=key)
    fake.tell("executed", node="2", display_node="2", output={"images": [image]}, prompt_id=key)
    fake.end(
        key, {"1": {"text": ["for the canvas"]}, "2": {"images": [image]}, "3": {"text": ["ä fox", "an owl"]}}
    )


def painting(**inputs):
    """Return a graph of made-up nodes: a picture that is saved, and a text that is shown."""
    return {
        "1": node("Paint", "Painter", **{"text": "x", "seed": 1, "style": "flat", **inputs}),
        "2": node("SaveImage", images=["1", 0], filename_prefix="art"),
        "3": node("PreviewAny", "What is it?", source=["1", 1]),
    }
