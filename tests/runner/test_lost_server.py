"""`run_workflow.py --server` on a server that goes away in the middle of a job, and comes back."""

import json
import struct
import threading
import time

import pytest
from fake_comfyui import PICTURE, FakeComfyUI, painting

from runner import remote
from runner.command import main

TEXTS = "ä fox\nan owl\noutput/What-is-it_00001.txt\n"


@pytest.fixture
def run(tmp_path, capsys, quick):
    """Run the workflow -> (exit status, stdout, stderr)."""
    (tmp_path / "flow.json").write_text(json.dumps(painting()), encoding="utf-8")

    def go(fake, *options):
        return main(["flow.json", "--server", fake.url, *options]), *capsys.readouterr()

    return go


def half(fake, key, prompt):
    """Do a job whose picture is there when the server dies."""
    image = {"filename": "art_00007_.png", "subfolder": "sub", "type": "output"}
    fake.start(key)
    fake.tell("executing", node="1", display_node="1", prompt_id=key)
    fake.frame(struct.pack(">II", 1, 1) + PICTURE, opcode=2)
    fake.tell("executed", node="2", display_node="2", output={"images": [image]}, prompt_id=key)
    while not hasattr(fake, "viewed"):
        time.sleep(0.01)
    time.sleep(0.2)
    fake.die()


def rest(fake, key, prompt):
    """Do a job that shows the text alone."""
    fake.start(key)
    fake.end(key, {"3": {"text": ["ä fox", "an owl"]}})


def killed_once(then, pause):
    """Start a server with the job `half`, then, after some seconds, one with the job `then`."""
    first, found = FakeComfyUI(half), []

    def die():
        first.close()
        time.sleep(pause)
        found.append(FakeComfyUI(then, port=first.http.server_port))

    first.die = lambda: threading.Thread(target=die).start()
    return first, found


@pytest.mark.parametrize("pause", [0.1, 2])
def test_what_was_not_done_is_done_when_the_server_is_back(run, pause, tmp_path):
    first, found = killed_once(rest, pause)
    status, out, said = run(first)
    assert (status, out) == (0, "output/sub/art_00001_.png\n" + TEXTS)
    assert "It has 60 seconds to come back; what is here is not made again." in said
    assert found[0].prompted["prompt"].keys() == {"1", "3"} and first.prompted["prompt"].keys() == {
        "1",
        "2",
        "3",
    }
    assert found[0].deleted == [first.prompted["prompt_id"]]  # in case the first one was only slow
    assert len(list(tmp_path.rglob("*.png"))) == 1
    found[0].close()


def test_a_server_that_stays_away_is_given_up(run):
    first, _ = killed_once(rest, 30)
    status, out, said = run(first, "--wait", "1")
    assert status == 3 and out == "output/sub/art_00001_.png\n"
    assert said.splitlines()[-1].startswith(f"ComfyUI at {first.url} cannot be reached: ")


def test_a_job_that_kills_every_server_is_given_up(run, monkeypatch):
    made = []

    def deadly(fake, key, prompt):
        fake.close()
        made.append(FakeComfyUI(deadly, port=fake.http.server_port))

    status, out, said = run(FakeComfyUI(deadly))
    assert status == 3 and out == "" and len(made) == 1 + remote.RESTARTS
    assert said.splitlines()[-1].endswith("before the job ended.")
    made[-1].close()


def test_a_workflow_without_outputs_is_for_the_server_to_refuse(run, tmp_path):
    (tmp_path / "flow.json").write_text(json.dumps({"1": painting()["1"]}), encoding="utf-8")
    with FakeComfyUI(
        rejection={"error": {"message": "Prompt has no outputs", "details": ""}, "node_errors": []}
    ) as fake:
        assert run(fake)[::2] == (2, "ComfyUI does not take this workflow: Prompt has no outputs.\n")
