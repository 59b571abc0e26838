"""Where the pack lies, and how its nodes are imported."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "versatile_diffusion_pack"


def load_pack(root: Path = ROOT, name: str = PACKAGE) -> ModuleType:
    """Import the node pack in a folder as ComfyUI does: its __init__.py, as a package of a name of ours.

    Only so do the nodes' relative imports work here as they do there. The package holds a copy of `vd_core`
    of its own, so what passes between it and the runner are tensors, dicts and built-in exceptions.
    """
    spec = importlib.util.spec_from_file_location(
        name, root / "__init__.py", submodule_search_locations=[str(root)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{root} cannot be imported as a package.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
