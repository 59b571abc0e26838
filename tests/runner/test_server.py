"""`run_workflow.py --server`, on a made-up server."""

import os
import signal
import struct
import time

import pytest
from fake_comfyui import PICTURE, FakeComfyUI, painting, succeed
from made_up_nodes import node
from PIL import Image

from runner import server, websocket

pytestmark = pytest.mark.usefixtures("quick")


def test_pictures_and_texts_are_fetched(queue, tmp_path):
    with FakeComfyUI() as fake:
        status, out, err = queue(fake)
    assert (status, err) == (0, "Painter\nSaveImage")
    assert out == "output/sub/art_00001_.png\nä fox\nan owl\noutput/What-is-it_00001.txt\n"
    assert (tmp_path / "output/sub/art_00001_.png").read_bytes() == PICTURE
    assert (tmp_path / "output/What-is-it_00001.txt").read_text(encoding="utf-8") == "ä fox\nan owl\n"
    assert fake.viewed == {"filename": "art_00007_.png", "subfolder": "sub", "type": "output"}
    assert fake.prompted["prompt"] == painting() and not fake.deleted and not fake.interrupted


def test_files_are_numbered_as_they_come_here(queue, tmp_path):
    (tmp_path / "output/sub").mkdir(parents=True)
    (tmp_path / "output/sub/art_00007_.png").write_text("mine")
    with FakeComfyUI() as fake:
        assert "output/sub/art_00008_.png\n" in queue(fake)[1]
    assert (tmp_path / "output/sub/art_00007_.png").read_text() == "mine"


def test_every_event_reaches_the_listener():
    seen = []
    with FakeComfyUI() as fake:
        entry = server.Server(fake.url).run(painting(), {}, seen.append)
    assert [event["data"]["value"] for event in seen if event["type"] == "progress"] == [1, 2, 3]
    assert [event["data"][4:] for event in seen if event["type"] == "preview"] == [PICTURE] * 3
    assert entry["status"]["status_str"] == "success" and not any(event["type"] == "status" for event in seen)


def test_what_a_node_says_is_shown_once(queue):
    def job(fake, key, prompt):
        said = struct.pack(">II", 3, 1) + b"1" + b"It is \x1b[31mtoo large."
        fake.tell("executing", node="1", display_node="1", prompt_id=key)
        fake.tell("text", prompt_id=key)  # not its shape
        for frame in (
            said,
            said,
            said[:-4],
            struct.pack(">II", 3, 5) + b"1",
            struct.pack(">II", 3, 2) + b"99x",
        ):
            fake.frame(frame, opcode=2)
        succeed(fake, key, prompt)

    with FakeComfyUI(job) as fake:
        status, _, err = queue(fake)
    assert status == 0 and err.count("Painter: It is") == 2 and "\x1b" not in err and "99" not in err


def test_messages_in_pieces_pings_and_large_ones(queue):
    def job(fake, key, prompt):
        fake.frame(b"are you there?", opcode=9)
        for size in (10, 70_000):
            fake.frame(b'{"type": "executing", "data"', final=False)
            fake.frame(b"", opcode=9)
            fake.frame(
                f': {{"node": "1", "prompt_id": "{key}", "more": "{"x" * size}"}}}}'.encode(), opcode=0
            )
        fake.frame(b"no JSON")
        fake.frame(b"[]")
        fake.frame(b"\0")
        succeed(fake, key, prompt)

    with FakeComfyUI(job) as fake:
        assert queue(fake)[::2] == (0, "Painter\nSaveImage")


def test_canvas_files_set_and_seed(queue):
    painter = {"id": 1, "type": "Paint", "title": "Painter", "widgets_values": ["x", 1, "randomize", "flat"]}
    save = {
        "id": 2,
        "type": "SaveImage",
        "inputs": [{"name": "images", "link": 5}],
        "widgets_values": ["art"],
    }
    canvas = {"nodes": [painter, save], "links": [[5, 1, 0, 2, 0, "IMAGE"]]}
    with FakeComfyUI() as fake:
        assert queue(fake, canvas, "--seed", "7", "--set", "Painter.style=round")[0] == 0
    flow = painting(seed=7, style="round")
    del flow["3"]
    flow["2"]["_meta"] = {"title": "SaveImage"}
    assert fake.prompted["prompt"] == flow
    assert fake.prompted["extra_data"]["extra_pnginfo"] == {"workflow": canvas}


def test_pictures_that_lie_here_are_uploaded(queue, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "in.png")
    flow = {
        "9": node("LoadImage", image="in.png"),
        "8": node("LoadImage", image="the server's.png"),
        **painting(image=["9", 0]),
    }
    with FakeComfyUI() as fake:
        assert queue(fake, flow)[0] == 0
    assert (tmp_path / "in.png").read_bytes() in fake.uploads[
        "body"
    ] and b'filename="in.png"' in fake.uploads["body"]
    assert fake.prompted["prompt"]["9"]["inputs"]["image"] == "in (1).png"
    assert fake.prompted["prompt"]["8"]["inputs"]["image"] == "the server's.png"


def test_contexts_of_a_folder_here_are_not_looked_for_on_the_server(queue_refused, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "c.npy").touch()
    flow = {"9": node("VD_LoadContext", file="c.npy"), **painting()}
    with FakeComfyUI() as fake:
        mine = {"input": {"required": {"file": [["theirs.npy"]]}}}
        fake.object_info = {**fake.object_info, "VD_LoadContext": mine}
        assert "copy c.npy into the input folder there" in queue_refused(fake, flow, "--input", "mine")


def test_lost_events_are_made_up_for_by_the_history(queue):
    def job(fake, key, prompt):
        fake.start(key)
        fake.end(key, {"3": {"text": ["done"]}}, say=False)

    with FakeComfyUI(job) as fake:
        assert queue(fake)[:2] == (0, "done\noutput/What-is-it_00001.txt\n")


def test_a_connection_that_is_cut_is_made_anew(queue):
    def job(fake, key, prompt):
        fake.hang_up()
        while not fake.sockets:
            time.sleep(0.01)
        time.sleep(0.05)
        succeed(fake, key, prompt)

    with FakeComfyUI(job) as fake:
        assert queue(fake)[:2] == (
            0,
            "output/sub/art_00001_.png\nä fox\nan owl\noutput/What-is-it_00001.txt\n",
        )
        assert fake.requests.count("/prompt") == 1  # the connection, not the job
    assert fake.requests.count("/ws") == 2


@pytest.mark.parametrize("waits", [True, False])
def test_an_interrupt_cancels_the_job(queue, waits):
    def job(fake, key, prompt):
        if not waits:
            fake.start(key)
        os.kill(os.getpid(), signal.SIGINT)

    with FakeComfyUI(job) as fake:
        assert queue(fake)[0] == 130
    assert fake.deleted == fake.interrupted == [fake.prompted["prompt_id"]]


def test_a_full_disk_cancels_the_job(queue_refused, tmp_path):
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "sub").write_text("a file where a folder must be")
    with FakeComfyUI() as fake:
        assert "output/sub" in queue_refused(fake)
    assert fake.interrupted == [fake.prompted["prompt_id"]]


def test_accounts_in_the_address(queue):
    with FakeComfyUI() as fake:
        headers = []
        fake.get = lambda handler, url, get=fake.get: (
            headers.append(handler.headers["Authorization"]),
            get(handler, url),
        )
        assert queue(fake.url.replace("//", "//me:p%40ss@"))[0] == 0
    assert set(headers) == {"Basic bWU6cEBzcw=="} and len(headers) > 3


def test_frames_of_every_length():
    socket = websocket.WebSocket.__new__(websocket.WebSocket)
    for size, head in (
        (0, b"\x00"),
        (125, b"\x7d"),
        (126, struct.pack(">BH", 126, 126)),
        (65536, struct.pack(">BQ", 127, 65536)),
    ):
        whole = b"\x82" + head + b"x" * size
        socket.buffer = bytearray(whole[:-1])
        assert socket.take_frame() is None and len(socket.buffer) == len(whole) - 1
        socket.buffer = bytearray(whole + b"rest")
        assert socket.take_frame() == (True, 2, b"x" * size) and socket.buffer == b"rest"


@pytest.mark.parametrize(
    "file",
    [{"filename": "../x.png"}, {"filename": "x.png", "subfolder": "C:\\"}, {"filename": "\\x\\..\\..\\y"}],
)
def test_files_stay_in_the_output_folder(queue_refused, file, tmp_path):
    def job(fake, key, prompt):
        fake.start(key)
        fake.end(key, {"2": {"images": [file]}})

    with FakeComfyUI(job) as fake:
        assert "leaves the output folder" in queue_refused(fake)
    assert not list(tmp_path.rglob("*.png"))
