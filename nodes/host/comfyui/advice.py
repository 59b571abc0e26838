"""The sentences of `nodes/advice.py`, on the node in the page and in the log, under every sampler of
core's."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from comfy.samplers import CFGGuider
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ...advice import advise_settings
from .guidance import KEY as CORRECTED


def advise(guider: CFGGuider, shape: Sequence[int]) -> None:
    """Say what does not suit the model of a guider that is about to sample latents of a shape."""
    flow = guider.model_patcher.model
    cfg = None if CORRECTED in guider.model_options else getattr(guider, "cfg", None)
    tell(advise_settings(flow.vd_config, flow.data, shape, cfg))


def tell(sentence: str) -> None:
    """Show a sentence on the node that runs, and log it; "" says nothing."""
    if not sentence:
        return
    logging.warning(sentence)
    node, server = get_executing_context(), getattr(PromptServer, "instance", None)
    if node is not None and server is not None:
        server.send_progress_text(sentence, node.node_id)
