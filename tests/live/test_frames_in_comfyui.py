"""How far it is from the sampler node to the network inside ComfyUI, in own functions."""

import pytest

pytestmark = pytest.mark.comfyui
MOST = 13


def test_few_functions_lie_between_the_sampler_node_and_a_context_layer(inside):
    """Both counted; the frames between them that are ComfyUI's or torch's are not ours."""
    names, _ = inside("frames_in_comfyui.py")
    print(names)
    assert names[0] == "execute" and "forward" in names and len(names) <= MOST, names
