"""What goes wrong on a running ComfyUI, in workflows or on the way to it: one sentence each."""

import threading

import pytest
from fake_comfyui import FakeComfyUI
from made_up_nodes import node

pytestmark = pytest.mark.usefixtures("quick")


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
def test_validation_errors_name_the_node(queue_refused, rejection, sentence):
    with FakeComfyUI(rejection=rejection) as fake:
        assert queue_refused(fake).endswith(sentence)


def test_a_workflow_that_would_run_in_part_does_not_run(queue_refused):
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
        assert queue_refused(fake) == "What is it? (node 3), input source: Required input is missing."
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
def test_errors_name_the_node_and_keep_what_was_made(queue, message, sentence):
    def job(fake, key, prompt):
        fake.start(key)
        fake.tell("executing", node="1", prompt_id=key)
        fake.end(key, {"3": {"text": ["done"]}}, [message])

    with FakeComfyUI(job) as fake:
        status, out, err = queue(fake)
    assert (status, err) == (4, f"Painter\n{sentence}") and out.startswith("done\n")


def test_a_node_that_the_server_lacks_is_named(queue_refused):
    with FakeComfyUI() as fake:
        sentence = queue_refused(fake, {"1": node("KSampler", "Sampler")})
    assert sentence.startswith(
        "Sampler (node 1) is of the class KSampler, which the ComfyUI at http://127.0.0.1"
    )


def test_a_job_that_somebody_deletes_is_missed(queue_refused):
    with FakeComfyUI(lambda fake, key, prompt: fake.pending.remove(key)) as fake:
        assert queue_refused(fake).startswith(
            "The job is gone: it was deleted from the queue of http://127.0.0.1"
        )


def test_a_server_that_dies_is_missed(queue_refused):
    def job(fake, key, prompt):
        fake.start(key)
        fake.tell("executing", node="1", prompt_id=key)
        threading.Thread(target=fake.close).start()

    with FakeComfyUI(job) as fake:
        assert (
            queue_refused(fake, None, "--wait", "0")
            == f"The connection to ComfyUI at {fake.url} was lost before the job ended."
        )
        fake.close = lambda: None


def test_nobody_there(queue_refused):
    with FakeComfyUI() as fake:
        pass
    assert queue_refused(fake).startswith(f"ComfyUI at {fake.url} cannot be reached: ")


@pytest.mark.parametrize("url", ["ftp://host", "http://", "host:port", "http://[::1"])
def test_addresses_that_are_none(queue_refused, url):
    assert (
        queue_refused(url) == f"--server {url} is not the address of a server, such as http://127.0.0.1:8188."
    )


def test_another_server_is_not_taken_for_comfyui(queue_refused):
    with FakeComfyUI() as fake:
        fake.answer = lambda handler, *_, answer=fake.answer: answer(handler, b"<html>")
        assert (
            queue_refused(fake)
            == f"{fake.url} does not answer as ComfyUI does (GET or POST /system_stats): is it "
            "the right address?"
        )
        assert queue_refused(f"{fake.url}/").startswith(fake.url)


def test_errors_of_the_server_are_told(queue_refused):
    with FakeComfyUI() as fake:
        fake.answer = lambda handler, *_, answer=fake.answer: answer(handler, b"log in\nfirst", 401)
        assert (
            queue_refused(fake) == f"ComfyUI at {fake.url} answered 401 to GET /system_stats: log in first."
        )


def test_places_exclude_each_other(queue_refused):
    assert "not allowed with argument" in queue_refused("x", None, "--comfyui", ".")
