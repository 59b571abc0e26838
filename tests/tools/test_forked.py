"""Cases of a torture run in children: what hangs is found, and a busy machine is no hang."""

import os
import sys
import time

import pytest

from tools.torture import forked
from tools.torture.forked import Result, measure_wait, run_forked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children are bounded by Linux's means")


def wait_for_nothing() -> Result:
    time.sleep(60)
    return Result("survived")


def count_forever() -> Result:
    while True:
        pass


def test_a_child_that_waits_for_nothing_hangs_and_says_where(monkeypatch):
    monkeypatch.setattr(forked, "CLOCK", 1)
    result = run_forked(wait_for_nothing, seconds=1)
    assert result.end == "hung" and "in wait_for_nothing" in result.said


def test_a_child_that_computes_without_end_hangs():
    assert run_forked(count_forever, seconds=1).end == "hung"


def test_a_child_that_others_keep_from_the_processors_does_not_hang(monkeypatch):
    monkeypatch.setattr(forked, "CLOCK", 1)
    started = time.monotonic()
    # as if it had waited for nine tenths of the time
    monkeypatch.setattr(forked, "measure_wait", lambda process: 0.9 * (time.monotonic() - started))
    slow = run_forked(lambda: time.sleep(2) or Result("survived"), seconds=1)
    assert slow.end == "survived"
    monkeypatch.setattr(forked, "measure_wait", lambda process: 0.0)
    assert run_forked(lambda: time.sleep(2) or Result("survived"), seconds=1).end == "hung"


def test_waiting_is_measured_where_two_share_a_processor():
    one = min(os.sched_getaffinity(0))

    def compete() -> Result:
        os.sched_setaffinity(0, {one})
        if not (other := os.fork()):
            end = time.process_time() + 1
            while time.process_time() < end:
                pass
            os._exit(0)
        end = time.process_time() + 0.5
        while time.process_time() < end:
            pass
        os.waitpid(other, 0)
        return Result("survived", str(measure_wait(os.getpid())))

    assert float(run_forked(compete).said) > 0.2


def test_a_child_that_dies_is_lost():
    assert run_forked(lambda: os._exit(3)).end == "lost"
