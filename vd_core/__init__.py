"""Versatile Diffusion as a small Python package: one multi-flow diffusion core, independent of ComfyUI.

    from vd_core import MODEL, Context, Sampling, blend, load

Each name is imported when it is first used: `import vd_core` and `vd_core.files` must stay light, since torch
takes seconds to import, and a command that only sends a workflow to a server never needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors and type checkers, which do not see what __getattr__ imports
    from .checkpoints.contexts import load_context as load_context
    from .checkpoints.contexts import save_context as save_context
    from .checkpoints.load import load as load
    from .checkpoints.scheduler_config import read_scheduler as read_scheduler
    from .checkpoints.write import save_model as save_model
    from .config import VDConfig as VDConfig
    from .context import Context as Context
    from .context import blend as blend
    from .context import join as join
    from .embedded import MODEL as MODEL
    from .flows import VersatileDiffusion as VersatileDiffusion
    from .pictures import from_pil as from_pil
    from .pictures import to_pil as to_pil
    from .ranking import best_first as best_first
    from .ranking import similarity as similarity
    from .ranking import token_similarity as token_similarity
    from .regions import Region as Region
    from .sampling.options import Sampling as Sampling

WHERE = {
    "load_context": ".checkpoints.contexts",
    "save_context": ".checkpoints.contexts",
    "load": ".checkpoints.load",
    "read_scheduler": ".checkpoints.scheduler_config",
    "save_model": ".checkpoints.write",
    "VDConfig": ".config",
    "Context": ".context",
    "Region": ".regions",
    "blend": ".context",
    "join": ".context",
    "MODEL": ".embedded",
    "VersatileDiffusion": ".flows",
    "from_pil": ".pictures",
    "to_pil": ".pictures",
    "best_first": ".ranking",
    "similarity": ".ranking",
    "token_similarity": ".ranking",
    "Sampling": ".sampling.options",
}
__all__ = list(WHERE)


def __getattr__(name: str) -> object:
    """Import a public name. Raises AttributeError for any other."""
    if name not in WHERE:
        raise AttributeError(f"vd_core has no {name!r}; it offers {', '.join(WHERE)}.")
    return getattr(import_module(WHERE[name], __name__), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
