"""What people type into the node search of ComfyUI's page, and the node that it shows them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.comfyui, pytest.mark.browser]

RIGHT = {
    "versatile diffusion": "Load Versatile Diffusion",
    "versatile": "Load Versatile Diffusion",
    "image variation": "Image Context",
    "variation": "Image Context",
    "caption": "Latent to Text",
    "describe": "Latent to Text",
    "prompt-free": "Load SeeCoder",
    "reference": "SeeCoder Encode",
    "style transfer": "SeeCoder Encode",
    "semantic": "Image Context",
    "blend": "Blend Contexts",
    "brain decoding": "Load Context",
    "focus": "Image Context",
}
# The page puts a node whose whole name is the phrase first, then nodes whose names begin with it, the most
# used of all first: ComfyUI's own ReferenceLatent and ImageBlend ("Blend Images" since 2026) stay ahead
# unless ours were called "Reference" and "Blend", which would say too little. Aliases make nodes appear,
# they do not order them.
CORES_OWN = {"reference": 3, "blend": 2}


def test_the_right_node_comes_first(server, browser):
    script = Path(__file__).with_name("search.mjs")
    command = ["node", str(script), server.client.url, *RIGHT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert not done.returncode, done.stderr[-2000:]
    found = json.loads(done.stdout)
    print(
        "\n".join(f"{phrase}: {[text.split(chr(10))[0] for text in found[phrase][:3]]}" for phrase in found)
    )
    for phrase, name in RIGHT.items():
        shown = found[phrase][: CORES_OWN.get(phrase, 1)]
        assert any(name in text for text in shown), (phrase, found[phrase])
