"""Guidance options and negatives inside ComfyUI: equal to the standalone host and to core's own nodes, and no
call too many."""

import pytest

pytestmark = pytest.mark.comfyui


@pytest.fixture(scope="module")
def found(inside):
    """What `guidance_in_comfyui.py` found."""
    return inside("guidance_in_comfyui.py", "--fp32-text-enc", "--use-pytorch-cross-attention")[0]


def chosen(found, start: str, count: int) -> dict[str, float]:
    """The differences of one kind, of which there must be `count`."""
    differences = {name: value for name, value in found["differences"].items() if name.startswith(start)}
    assert len(differences) == count, sorted(found["differences"])
    return differences


@pytest.mark.parametrize(
    ("start", "count"), [("hosts image", 14), ("hosts text", 14), ("negative image", 5), ("negative text", 5)]
)
def test_both_hosts_give_the_same(found, start, count):
    differences = chosen(found, start, count)
    print(f"{start}: at most {max(differences.values()):.2g}")
    assert max(differences.values()) < 1e-4, differences


def test_neutral_settings_change_no_bit_and_the_last_ones_count(found):
    assert (
        set(chosen(found, "neutral", 2).values())
        == set(chosen(found, "the last one counts", 2).values())
        == {0.0}
    )


@pytest.mark.parametrize("model", ["vd", "stable diffusion"])
def test_rescaling_is_cores_rescale_cfg(found, model):
    effect = found["differences"][f"effect {model}"]
    assert effect > 1e-3 and found["differences"][f"RescaleCFG {model}"] < min(1e-4, effect / 100)


@pytest.mark.parametrize("model", ["vd", "stable diffusion"])
def test_static_thresholds_bound_the_result_of_any_model(found, model):
    assert found["differences"][f"bound {model}"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    "sampler", ["KSampler euler", "KSampler heun", "KSampler dpmpp_2m", "VD_Sampler", "CFGGuider"]
)
def test_one_evaluation_per_call_outside_the_interval(found, sampler):
    calls = found["calls"][sampler]
    first, last = calls.index(2), len(calls) - calls[::-1].index(2)
    assert set(calls[:first]) == set(calls[last:]) == {1} and set(calls[first:last]) == {2}
    assert len(calls) == (15 if "heun" in sampler else 8) and last - first <= len(calls) // 2


@pytest.mark.parametrize("guider", ["DualCFGGuider", "PerpNegGuider"])
def test_guiders_of_two_scales_know_the_interval(found, guider):
    """Each of their guided steps is two calls, of two rows and of one."""
    assert found["calls"][guider] == [1, 1, 1, 2, 1, 2, 1, 1, 1, 1]


@pytest.mark.parametrize("data", ["image", "text"])
def test_every_negative_does_something_of_its_own(found, data):
    differences = chosen(found, f"{data}: ", 10 + 5)
    assert min(differences.values()) > 1e-2, differences


def test_a_guidance_per_context_acts_once_under_guiders_and_wrappers_of_other_packs(inside):
    assert inside("other_guiders_in_comfyui.py")[0] == {"held": 0, "twice": 0}
