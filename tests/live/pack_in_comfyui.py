"""Inside ComfyUI: how every script here starts, and what they share. The fixture `inside` runs the scripts;
by hand:

PYTHONPATH=COMFYUI:.:tests python tests/live/NAME_in_comfyui.py ARGUMENTS… --cpu --base-directory DIR
(COMFYUI: a checkout; python: its own; DIR: an empty folder, so that nothing is written into the checkout)
"""

from __future__ import annotations

import importlib
import inspect
import sys
from types import ModuleType

from torch import Tensor

from runner.pack import PACKAGE, load_pack


def start(arguments: list[str]) -> dict[str, type]:
    """Gives ComfyUI its command line, then imports the pack as ComfyUI does -> its node classes."""
    sys.argv[1:] = arguments
    import comfy.options

    comfy.options.enable_args_parsing()  # first: core reads its command line once, with the next import
    import comfy.utils
    import folder_paths  # noqa: F401  the pack looks whether it is there
    import utils.extra_config  # noqa: F401  as main.py does, before core puts comfy/ into the path

    comfy.utils.PROGRESS_BAR_ENABLED = False
    return load_pack().NODE_CLASS_MAPPINGS


def part(name: str) -> ModuleType:
    """A module of the pack."""
    return importlib.import_module(f"{PACKAGE}.{name}")


def sample_alone(
    model,
    positive,
    negative,
    latent: dict,
    seed: int,
    steps: int,
    cfg: float,
    sampler: str,
    eta: float,
    fidelity: float,
    *rest,
) -> dict:
    """Sample without ComfyUI, under the inputs of the multi-flow sampler node in their order; rest: noise,
    start_noise."""
    noise, *start = rest
    sampling = part("vd_core.sampling.options").Sampling(
        sampler, steps, cfg, eta, fidelity=fidelity, noise=noise
    )
    return part("nodes.host.standalone").sample(model, positive, negative, latent, seed, sampling, *start)


def values(node, *arguments) -> tuple:
    """What a node of core gives, whether it is of the older or of the newer kind."""
    bound = inspect.ismethod(getattr(node, "execute", None))
    result = node.execute(*arguments) if bound else getattr(node(), node.FUNCTION)(*arguments)
    return getattr(result, "result", result)


def difference(ours: Tensor, expected: Tensor) -> float:
    """|difference| / |expected value|."""
    return float((ours.double() - expected.double()).norm() / expected.double().norm())
