"""`run_workflow.py --server`, on a made-up server."""

import json
import os
import signal
import struct
import threading
import time

import pytest
from fake_comfyui import PICTURE, FakeComfyUI, painting, succeed
from made_up_nodes import node
from PIL import Image

from runner import server, websocket
from runner.command import main


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Does not wait long for news, and works in a folder of its own."""
    monkeypatch.setattr(server, "TICK", 0.3)
    monkeypatch.setattr(websocket, "POLL", 0.02)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(tmp_path, capsys):
    """Runs a workflow on a server -> (exit status, stdout, stderr without progress bars)."""

    def go(fake, flow=None, *options):
        (tmp_path / "flow.json").write_text(json.dumps(flow or painting()), encoding="utf-8")
        status = main(["flow.json", "--server", getattr(fake, "url", fake), *options])
        out, err = capsys.readouterr()
        return status, out, "\n".join(line.split("\r")[-1] for line in err.rstrip().split("\n"))

    return go


@pytest.fixture
def refused(run):
    """Runs a workflow that must fail -> the last line of stderr."""

    def go(*arguments):
        status, _, err = run(*arguments)
        assert status in (2, 3, 4) and "Traceback" not in err
        return err.splitlines()[-1]

    return go


# Success


def test_pictures_and_texts_are_fetched(run, tmp_path):
    with FakeComfyUI() as fake:
        status, out, err = run(fake)
    assert (status, err) == (0, "Painter\nSaveImage")
    assert out == "output/sub/art_00001_.png\nä fox\nan owl\noutput/What-is-it_00001.txt\n"
    assert (tmp_path / "output/sub/art_00001_.png").read_bytes() == PICTURE
    assert (tmp_path / "output/What-is-it_00001.txt").read_text(encoding="utf-8") == "ä fox\nan owl\n"
    assert fake.viewed == {"filename": "art_00007_.png", "subfolder": "sub", "type": "output"}
    assert fake.prompted["prompt"] == painting() and not fake.deleted and not fake.interrupted


def test_files_are_numbered_as_they_come_here(run, tmp_path):
    (tmp_path / "output/sub").mkdir(parents=True)
    (tmp_path / "output/sub/art_00007_.png").write_text("mine")
    with FakeComfyUI() as fake:
        assert "output/sub/art_00008_.png\n" in run(fake)[1]
    assert (tmp_path / "output/sub/art_00007_.png").read_text() == "mine"


def test_every_event_reaches_the_listener():
    seen = []
    with FakeComfyUI() as fake:
        entry = server.Server(fake.url).run(painting(), {}, seen.append)
    assert [event["data"]["value"] for event in seen if event["type"] == "progress"] == [1, 2, 3]
    assert [event["data"][4:] for event in seen if event["type"] == "preview"] == [PICTURE] * 3
    assert entry["status"]["status_str"] == "success" and not any(event["type"] == "status" for event in seen)


def test_what_a_node_says_is_shown_once(run):
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
        status, _, err = run(fake)
    assert status == 0 and err.count("Painter: It is") == 2 and "\x1b" not in err and "99" not in err


def test_messages_in_pieces_pings_and_large_ones(run):
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
        assert run(fake)[::2] == (0, "Painter\nSaveImage")


def test_canvas_files_set_and_seed(run):
    painter = {"id": 1, "type": "Paint", "title": "Painter", "widgets_values": ["x", 1, "randomize", "flat"]}
    save = {
        "id": 2,
        "type": "SaveImage",
        "inputs": [{"name": "images", "link": 5}],
        "widgets_values": ["art"],
    }
    canvas = {"nodes": [painter, save], "links": [[5, 1, 0, 2, 0, "IMAGE"]]}
    with FakeComfyUI() as fake:
        assert run(fake, canvas, "--seed", "7", "--set", "Painter.style=round")[0] == 0
    flow = painting(seed=7, style="round")
    del flow["3"]
    flow["2"]["_meta"] = {"title": "SaveImage"}
    assert fake.prompted["prompt"] == flow
    assert fake.prompted["extra_data"]["extra_pnginfo"] == {"workflow": canvas}


def test_pictures_that_lie_here_are_uploaded(run, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "in.png")
    flow = {
        "9": node("LoadImage", image="in.png"),
        "8": node("LoadImage", image="the server's.png"),
        **painting(image=["9", 0]),
    }
    with FakeComfyUI() as fake:
        assert run(fake, flow)[0] == 0
    assert (tmp_path / "in.png").read_bytes() in fake.uploads[
        "body"
    ] and b'filename="in.png"' in fake.uploads["body"]
    assert fake.prompted["prompt"]["9"]["inputs"]["image"] == "in (1).png"
    assert fake.prompted["prompt"]["8"]["inputs"]["image"] == "the server's.png"


def test_contexts_of_a_folder_here_are_not_looked_for_on_the_server(refused, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "c.npy").touch()
    flow = {"9": node("VD_LoadContext", file="c.npy"), **painting()}
    with FakeComfyUI() as fake:
        mine = {"input": {"required": {"file": [["theirs.npy"]]}}}
        fake.object_info = {**fake.object_info, "VD_LoadContext": mine}
        assert "copy c.npy into the input folder there" in refused(fake, flow, "--input", "mine")


def test_lost_events_are_made_up_for_by_the_history(run):
    def job(fake, key, prompt):
        fake.start(key)
        fake.end(key, {"3": {"text": ["done"]}}, say=False)

    with FakeComfyUI(job) as fake:
        assert run(fake)[:2] == (0, "done\noutput/What-is-it_00001.txt\n")


def test_a_connection_that_is_cut_is_made_anew(run):
    def job(fake, key, prompt):
        fake.hang_up()
        while not fake.sockets:
            time.sleep(0.01)
        time.sleep(0.05)
        succeed(fake, key, prompt)

    with FakeComfyUI(job) as fake:
        assert run(fake)[:2] == (0, "output/sub/art_00001_.png\nä fox\nan owl\noutput/What-is-it_00001.txt\n")
        assert fake.requests.count("/prompt") == 1  # the connection, not the job
    assert fake.requests.count("/ws") == 2


# Refusals


@pytest.mark.parametrize(
    ("rejection", "sentence"),
    [
        (
            {
                "error": {
                    "type": "prompt_outputs_failed_validation",
                    "message": "Prompt outputs failed validation",
                },
                "node_errors": {
                    "1": {
                        "errors": [
                            {
                                "message": "Value 99 bigger than max of 9",
                                "details": "seed",
                                "extra_info": {"input_name": "seed"},
                            },
                            {
                                "message": "Value not in list",
                                "details": "style: 'a' not in ['b']",
                                "extra_info": {"input_name": "style"},
                            },
                        ]
                    },
                    "2": {
                        "errors": [
                            {"message": "Exception when validating node", "details": "'5'", "extra_info": {}}
                        ]
                    },
                },
            },
            "Painter (node 1), input seed: Value 99 bigger than max of 9. Painter (node 1), input style: "
            "Value not in list: 'a' not in ['b']. SaveImage (node 2): Exception when validating node: '5'.",
        ),
        (
            {"error": {"message": "Prompt has no outputs", "details": ""}, "node_errors": []},
            "this workflow: Prompt has no outputs.",
        ),
    ],
)
def test_validation_errors_name_the_node(refused, rejection, sentence):
    with FakeComfyUI(rejection=rejection) as fake:
        assert refused(fake).endswith(sentence)


def test_a_workflow_that_would_run_in_part_does_not_run(refused):
    errors = {
        "3": {
            "errors": [
                {
                    "message": "Required input is missing",
                    "details": "source",
                    "extra_info": {"input_name": "source"},
                }
            ]
        }
    }
    with FakeComfyUI(rejection={"prompt_id": "abc", "node_errors": errors}) as fake:
        assert refused(fake) == "What is it? (node 3), input source: Required input is missing."
    assert fake.deleted == fake.interrupted == ["abc"]


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (
            [
                "execution_error",
                {"node_id": "1", "exception_type": "ValueError", "exception_message": "No\nblue.\n"},
            ],
            "Painter: No blue.",
        ),
        (
            ["execution_error", {"node_id": "1", "exception_type": "KeyError", "exception_message": "'x'"}],
            "Painter: KeyError: 'x'",
        ),
        (["execution_interrupted", {"node_id": "1"}], "Painter: the job was interrupted on the server."),
        (["execution_start", {}], "The job failed on the server, which does not say why: its log does."),
    ],
)
def test_errors_name_the_node_and_keep_what_was_made(run, message, sentence):
    def job(fake, key, prompt):
        fake.start(key)
        fake.tell("executing", node="1", prompt_id=key)
        fake.end(key, {"3": {"text": ["done"]}}, [message])

    with FakeComfyUI(job) as fake:
        status, out, err = run(fake)
    assert (status, err) == (4, f"Painter\n{sentence}") and out.startswith("done\n")


def test_a_node_that_the_server_lacks_is_named(refused):
    with FakeComfyUI() as fake:
        sentence = refused(fake, {"1": node("KSampler", "Sampler")})
    assert sentence.startswith(
        "Sampler (node 1) is of the class KSampler, which the ComfyUI at http://127.0.0.1"
    )


@pytest.mark.parametrize(
    "file",
    [{"filename": "../x.png"}, {"filename": "x.png", "subfolder": "C:\\"}, {"filename": "\\x\\..\\..\\y"}],
)
def test_files_stay_in_the_output_folder(refused, file, tmp_path):
    def job(fake, key, prompt):
        fake.start(key)
        fake.end(key, {"2": {"images": [file]}})

    with FakeComfyUI(job) as fake:
        assert "leaves the output folder" in refused(fake)
    assert not list(tmp_path.rglob("*.png"))


# Interruption


@pytest.mark.parametrize("waits", [True, False])
def test_an_interrupt_cancels_the_job(run, waits):
    def job(fake, key, prompt):
        if not waits:
            fake.start(key)
        os.kill(os.getpid(), signal.SIGINT)

    with FakeComfyUI(job) as fake:
        assert run(fake)[0] == 130
    assert fake.deleted == fake.interrupted == [fake.prompted["prompt_id"]]


def test_a_full_disk_cancels_the_job(refused, tmp_path):
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "sub").write_text("a file where a folder must be")
    with FakeComfyUI() as fake:
        assert "output/sub" in refused(fake)
    assert fake.interrupted == [fake.prompted["prompt_id"]]


# Connections


def test_a_job_that_somebody_deletes_is_missed(refused):
    with FakeComfyUI(lambda fake, key, prompt: fake.pending.remove(key)) as fake:
        assert refused(fake).startswith("The job is gone: it was deleted from the queue of http://127.0.0.1")


def test_a_server_that_dies_is_missed(refused):
    def job(fake, key, prompt):
        fake.start(key)
        fake.tell("executing", node="1", prompt_id=key)
        threading.Thread(target=fake.close).start()

    with FakeComfyUI(job) as fake:
        assert (
            refused(fake, None, "--wait", "0")
            == f"The connection to ComfyUI at {fake.url} was lost before the job ended."
        )
        fake.close = lambda: None


def test_nobody_there(refused):
    with FakeComfyUI() as fake:
        pass
    assert refused(fake).startswith(f"ComfyUI at {fake.url} cannot be reached: ")


@pytest.mark.parametrize("url", ["ftp://host", "http://", "host:port", "http://[::1"])
def test_addresses_that_are_none(refused, url):
    assert refused(url) == f"--server {url} is not the address of a server, such as http://127.0.0.1:8188."


def test_another_server_is_not_taken_for_comfyui(refused):
    with FakeComfyUI() as fake:
        fake.answer = lambda handler, *_, answer=fake.answer: answer(handler, b"<html>")
        assert (
            refused(fake) == f"{fake.url} does not answer as ComfyUI does (GET or POST /system_stats): is it "
            "the right address?"
        )
        assert refused(f"{fake.url}/").startswith(fake.url)


def test_errors_of_the_server_are_told(refused):
    with FakeComfyUI() as fake:
        fake.answer = lambda handler, *_, answer=fake.answer: answer(handler, b"log in\nfirst", 401)
        assert refused(fake) == f"ComfyUI at {fake.url} answered 401 to GET /system_stats: log in first."


def test_accounts_in_the_address(run):
    with FakeComfyUI() as fake:
        headers = []
        fake.get = lambda handler, url, get=fake.get: (
            headers.append(handler.headers["Authorization"]),
            get(handler, url),
        )
        assert run(fake.url.replace("//", "//me:p%40ss@"))[0] == 0
    assert set(headers) == {"Basic bWU6cEBzcw=="} and len(headers) > 3


def test_places_exclude_each_other(refused):
    assert "not allowed with argument" in refused("x", None, "--comfyui", ".")


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
