"""The sentences of `nodes/advice.py`, on the node in the page and in the log, under every sampler of
core's."""

from __future__ import annotations

import logging

from comfy.patcher_extension import WrapperExecutor
from comfy_execution.utils import get_executing_context
from server import PromptServer
from torch import Tensor

from ...advice import advise_settings
from .guidance import KEY as CORRECTED


def sample(executor: WrapperExecutor, noise: Tensor, *given, **more) -> Tensor:
    """Wrap a whole sampling, whose further arguments differ among cores, to say first what does not suit the
    model."""
    guider = executor.class_obj
    flow = guider.model_patcher.model
    cfg = None if CORRECTED in guider.model_options else getattr(guider, "cfg", None)
    tell(advise_settings(flow.vd_config, flow.data, noise.shape, cfg))
    return executor(noise, *given, **more)


def tell(sentence: str) -> None:
    """Show a sentence on the node that runs, and log it; "" says nothing."""
    if not sentence:
        return
    logging.warning(sentence)
    node, server = get_executing_context(), getattr(PromptServer, "instance", None)
    if node is not None and server is not None:
        server.send_progress_text(sentence, node.node_id)
