"""Core's own way to compile MODELs takes ours: captured whole, with the same results."""

import pytest

pytestmark = pytest.mark.comfyui


def test_what_core_captures_gives_what_the_model_gives(inside):
    found, _ = inside("compiled_in_comfyui.py", "--use-pytorch-cross-attention")
    for flow, (difference, first, graphs) in found.items():
        print(
            f"{flow}: {difference:.2g} from the plain MODEL, {first} graphs for the first size, {graphs} in "
            "all"
        )
        assert difference < 1e-5 and 0 < first <= graphs <= 8
