"""How far it is from the sampler node to the network inside ComfyUI, in own functions."""

import pytest

pytestmark = pytest.mark.comfyui
# Only contexts with a guidance of their own need a function around core's predictions. The network of texts
# is vd_core's own, so that its walk and its layer count too.
MOST = {"image": 8, "image, own guidance": 9, "text": 11}


def test_few_functions_lie_between_the_sampler_node_and_a_context_layer(inside):
    """Both counted; the frames between them that are ComfyUI's or torch's are not ours."""
    found, _ = inside("frames_in_comfyui.py")
    for flow, names in found.items():
        print(flow, names)
        assert names[0] == "execute" and "forward" in names and len(names) <= MOST[flow], names
    assert found.keys() == MOST.keys()
