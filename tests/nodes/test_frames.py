"""How far it is from the sampler node to the network: the number of own functions on the way."""

import sys
import traceback
from pathlib import Path

from node_calls import draw, text

ROOT = Path(__file__).parents[2]
PACKAGES = Path(sys.prefix)
MOST = 9


def test_few_functions_lie_between_the_sampler_node_and_a_context_layer(nodes, loaded):
    """From `VD_Sampler.execute` to the forward pass of the layer, both counted; frames of torch are not
    ours."""
    contexts, stacks = text(nodes, loaded), []
    draw(nodes, loaded, contexts, steps=1)  # reads the layers
    layer = loaded["image_model"].layers.model.diffuser.context["text"][0]

    def look(module, inputs):
        files = [(Path(frame.filename), frame.name) for frame in traceback.extract_stack()]
        # the README's virtual environment, with torch in it, lies inside the project
        names = [name for file, name in files if file.is_relative_to(ROOT) and PACKAGES not in file.parents]
        stacks.append(names[names.index("execute") : -1])  # the last one is this function

    handle = layer.norm.register_forward_pre_hook(look)
    try:
        draw(nodes, loaded, contexts, steps=1)
    finally:
        handle.remove()
    assert stacks[0][-1] == "forward" and len(stacks[0]) <= MOST, stacks[0]
