"""The plan against the official order of Versatile Diffusion v1.0, written out."""

from dataclasses import replace

import pytest

from vd_core.config import DiffuserConfig, VDConfig
from vd_core.diffuser.plan import plan

# d: data layer, c: context layer, S: save, L: load.
OFFICIAL = """
    d S  d c S  d c S  d S  d c S  d c S  d S  d c S  d c S  d S  d S  d S
    d c d
    L d  L d  L d  d  L d c  L d c  L d c  d  L d c  L d c  L d c  d  L d c  L d c  L d c  d
"""
LETTERS = {"data": "d", "context": "c", "save": "S", "load": "L"}

DATA_CHANNELS = """
    0-320 320-320 320-320 320-320 320-640 640-640 640-640 640-1280 1280-1280 1280-1280 1280-1280 1280-1280
    1280-1280 1280-1280
    2560-1280 2560-1280 2560-1280 1280-1280 2560-1280 2560-1280 1920-1280 1280-1280
    1920-640 1280-640 960-640 640-640 960-320 640-320 640-320
    320-0
"""
CONTEXT_WIDTHS = [320, 320, 640, 640, 1280, 1280, 1280, 1280, 1280, 1280, 640, 640, 640, 320, 320, 320]

CONFIGS = {
    "full": DiffuserConfig(),
    "tiny": VDConfig.tiny().diffuser,
    "uneven": DiffuserConfig(channel_mult=(1, 2, 3), num_res_blocks=(1, 3, 2), attention=(False, True, True)),
    "one level": DiffuserConfig(channel_mult=(1,), num_res_blocks=(1,), attention=(False,)),
}


def steps(config, op):
    return [step for step in plan(config) if step.op == op]


def test_official_order():
    assert " ".join(LETTERS[step.op] for step in plan(DiffuserConfig())) == " ".join(OFFICIAL.split())


def test_official_channels():
    data, context = steps(DiffuserConfig(), "data"), steps(DiffuserConfig(), "context")
    assert [f"{step.inputs}-{step.outputs}" for step in data] == DATA_CHANNELS.split()
    assert [step.inputs for step in context] == [step.outputs for step in context] == CONTEXT_WIDTHS
    assert len(data) == 30 and len(context) == 16


def test_official_roles():
    roles = {step.index: step.role for step in steps(DiffuserConfig(), "data") if step.role != "res"}
    assert roles == {0: "first", 3: "down", 6: "down", 9: "down", 17: "up", 21: "up", 25: "up", 29: "last"}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_any_plan_is_consistent(config):
    """Walk it with channels in the place of activations: every layer is fed what it reads, and nothing is
    left over."""
    width, saved, level, counts = 0, [], 0, {"data": 0, "context": 0}
    for step in plan(config):
        if step.op == "save":
            saved.append((width, level))
        elif step.op == "load":
            channels, saved_level = saved.pop()
            assert saved_level == level, "activations of different resolutions cannot be concatenated"
            width += channels
        else:
            assert (step.index, step.inputs) == (counts[step.op], width)
            counts[step.op] += 1
            width = step.outputs
            level += {"down": 1, "up": -1}.get(step.role, 0)
    assert not saved and level == 0 and width == 0


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_places_in_the_network(config):
    """Stage, level and block number every residual block once; context layers share the numbers of the block
    that they follow."""
    blocks = [(step.stage, step.level, step.block) for step in steps(config, "data") if step.role == "res"]
    expected = [
        ("in", level, block) for level, count in enumerate(config.num_res_blocks) for block in range(count)
    ]
    expected += [("mid", len(config.num_res_blocks) - 1, block) for block in range(2)]
    expected += [
        ("out", level, block)
        for level, count in reversed([*enumerate(config.num_res_blocks)])
        for block in range(count + 1)
    ]
    assert blocks == expected
    contexts = [(step.stage, step.level, step.block) for step in steps(config, "context")]
    middle = ("mid", len(config.attention) - 1, 0)
    assert contexts == [
        place for place in expected if place == middle or place[0] != "mid" and config.attention[place[1]]
    ]


def test_attention_only_moves_context_layers():
    config = DiffuserConfig()
    bare = replace(config, attention=(False,) * 4)
    assert steps(bare, "data") == steps(config, "data") and len(steps(bare, "context")) == 1
