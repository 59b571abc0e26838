"""Check what the pack relies on in a ComfyUI checkout, without starting it: `python -m
tools.comfyui_interface CHECKOUT`.

Reads the source of nodes/host/comfyui and of the checkout; nothing is imported, so it takes seconds and needs
no torch. Each name of core that the adapter uses is listed with what the checkout says about it: `ok`,
`optional` (the adapter asks whether it is there) or `MISSING` with the reason. Exit status 1 where something
is missing: paste the output into a report.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ADAPTER = Path(__file__).resolve().parents[1] / "nodes" / "host" / "comfyui"
CORE = ("comfy", "folder_paths", "latent_preview")  # the top-level names that are ComfyUI's
MODEL_PATCHER = "comfy.model_patcher.ModelPatcher"
# Attributes of core's objects that the adapter reads or sets; the type of an object cannot be read from
# source.
ATTRIBUTES = {
    MODEL_PATCHER: (
        "add_object_patch",
        "add_wrapper_with_key",
        "clone",
        "get_additional_models_with_key",
        "get_model_object",
        "get_wrappers",
        "is_clone",
        "load_device",
        "model",
        "model_options",
        "remove_wrappers_with_key",
        "set_additional_models",
        "set_model_sampler_post_cfg_function",
    ),
    "comfy.sd.CLIP": (
        "add_hooks_to_dict",
        "cond_stage_model",
        "encode_from_tokens",
        "load_sd",
        "patcher",
        "tokenize",
    ),
    "comfy.sd.VAE": (
        "decode",
        "device",
        "downscale_ratio",
        "first_stage_model",
        "latent_channels",
        "memory_used_encode",
        "output_device",
        "patcher",
        "process_input",
        "upscale_ratio",
        "vae_dtype",
        "vae_encode_crop_pixels",
    ),
    "comfy.clip_vision.ClipVisionModel": ("image_size", "load_device", "load_sd", "model", "patcher"),
    "comfy.model_base.BaseModel": (
        "diffusion_model",
        "extra_conds",
        "model_config",
        "model_sampling",
        "process_latent_in",
        "process_latent_out",
    ),
    "comfy.model_sampling.ModelSamplingDiscrete": (
        "log_sigmas",
        "percent_to_sigma",
        "set_sigmas",
        "sigmas",
        "timestep",
    ),
    "comfy.samplers.CFGGuider": ("conds", "inner_model", "sample", "set_cfg", "set_conds"),
    "comfy.samplers.KSamplerX0Inpaint": ("inner_model",),
    "comfy.supported_models.SD15": ("set_inference_dtype", "supported_inference_dtypes"),
    "comfy.clip_model.CLIPVisionModelProjection": ("vision_model", "visual_projection"),
    "comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel": (
        "input_blocks",
        "middle_block",
        "num_heads",
        "out",
        "output_blocks",
    ),
    "comfy.utils.ProgressBar": ("update", "update_absolute"),
    "comfy.conds.CONDRegular": ("can_concat", "concat", "cond", "process_cond"),
}
OPTIONAL = {  # what the adapter asks for by name or signature, and does without
    MODEL_PATCHER: ("cached_patcher_init", "is_dynamic"),
    "comfy.model_patcher": ("CoreModelPatcher",),
}


@dataclass
class Use:
    """One name of core in the adapter: where it stands, and how it is called."""

    name: str  # such as comfy.sd.VAE
    place: str  # file:line
    positional: int = 0
    keywords: set[str] = field(default_factory=set)
    called: bool = False


class Uses(ast.NodeVisitor):
    """The names of core that a file of the adapter uses."""

    def __init__(self, path: Path):
        self.path, self.names, self.found = path, {}, []

    def visit_Import(self, node: ast.Import) -> None:
        self.names |= {
            alias.asname or alias.name.split(".")[0]: alias.name.split(".")[0]
            for alias in node.names
            if is_core(alias.name)
        }

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if not node.level and is_core(node.module):
            for alias in node.names:
                self.names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                self.found.append(Use(f"{node.module}.{alias.name}", f"{self.path.name}:{node.lineno}"))

    def visit_Call(self, node: ast.Call) -> None:
        function, given = node.func, node.args
        if isinstance(function, ast.Name) and function.id == "partial" and given:
            function, given = given[0], given[1:]
        if (name := self.dotted(function)) is not None:
            unpacked = any(isinstance(argument, ast.Starred) for argument in given)
            keywords = {keyword.arg for keyword in node.keywords if keyword.arg is not None}
            count = 0 if unpacked or function is not node.func else len(given)
            self.found.append(Use(name, f"{self.path.name}:{node.lineno}", count, keywords, True))
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if (name := self.dotted(node)) is not None:
            self.found.append(Use(name, f"{self.path.name}:{node.lineno}"))
        else:
            self.generic_visit(node)

    def dotted(self, node: ast.expr) -> str | None:
        """Return the full name of an expression, where it is one of core's."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute) and (before := self.dotted(node.value)) is not None:
            return f"{before}.{node.attr}"
        return None


def is_core(module: str | None) -> bool:
    """Tell whether a module is ComfyUI's."""
    return module is not None and module.split(".")[0] in CORE


class Checkout:
    """The source of a ComfyUI. Raises ValueError for a folder that is none."""

    def __init__(self, root: Path):
        if not (root / "folder_paths.py").is_file():
            raise ValueError(f"{root} is not a ComfyUI checkout: it has no folder_paths.py.")
        self.root = root

    @cache  # noqa: B019  one checkout per run
    def module(self, name: str) -> ast.Module | None:
        """Return the syntax tree of a module; None where there is none."""
        path = self.root.joinpath(*name.split("."))
        files = [path.with_suffix(".py"), path / "__init__.py"]
        file = next((file for file in files if file.is_file()), None)
        return None if file is None else ast.parse(file.read_text(encoding="utf-8"))

    def is_package(self, name: str) -> bool:
        """Tell whether a name is a module or a folder of modules."""
        return self.module(name) is not None or self.root.joinpath(*name.split(".")).is_dir()

    def find(self, name: str) -> ast.AST | None:
        """Find the definition of a dotted name: a class, a function, an assignment; through imports of other
        modules of core."""
        owner, _, last = name.rpartition(".")
        if self.is_package(name):
            return ast.Module([], [])
        if self.module(owner) is not None:
            for node in self.module(owner).body:
                for inner in (node, *(ast.walk(node) if isinstance(node, (ast.If, ast.Try)) else ())):
                    if last in list_names(inner):
                        if isinstance(inner, ast.ImportFrom) and is_core(inner.module):
                            original = next(
                                alias.name for alias in inner.names if last in (alias.asname, alias.name)
                            )
                            return self.find(f"{inner.module}.{original}")
                        return inner
            return None
        if not owner or not isinstance(definition := self.find(owner), ast.ClassDef):
            return None
        return self.member(definition, owner, last)

    def member(self, cls: ast.ClassDef, name: str, attribute: str) -> ast.AST | None:
        """Find a method or an attribute of a class or of those that it inherits from; also one that a method
        sets on self."""
        for node in ast.walk(cls):
            if attribute in list_names(node):
                return node
            if isinstance(node, ast.Attribute) and node.attr == attribute and isinstance(node.ctx, ast.Store):
                return node
        module = name.rpartition(".")[0]
        for base in cls.bases:
            dotted = ast.unparse(base)
            for place in (f"{module}.{dotted}", dotted, f"comfy.{dotted}"):
                if isinstance(found := self.find(place), ast.ClassDef):
                    return self.member(found, place, attribute)
        return None

    def signature(self, name: str) -> ast.arguments | None:
        """Read what a function takes, or the constructor of a class; None where it is not written in Python
        source of core."""
        node = self.find(name)
        if isinstance(node, ast.ClassDef):
            node = self.member(node, name, "__init__")
        return node.args if isinstance(node, ast.FunctionDef) else None


def list_names(node: ast.AST) -> set[str]:
    """List the names that a statement defines, buffers of torch modules too."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name.split(".")[0] for alias in node.names}
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "register_buffer"
    ):
        return {node.args[0].value} if isinstance(node.args[0], ast.Constant) else set()
    targets = (
        node.targets
        if isinstance(node, ast.Assign)
        else [node.target]
        if isinstance(node, ast.AnnAssign)
        else []
    )
    return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}


def find_fault(use: Use, checkout: Checkout) -> str:
    """Find what is wrong with a use of a name; empty where nothing is."""
    if checkout.find(use.name) is None:
        return "is not there"
    if not use.called or (arguments := checkout.signature(use.name)) is None:
        return ""
    named = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    bound = named[1:] if named[:1] in (["self"], ["cls"]) else named
    if use.positional > len(bound) and arguments.vararg is None:
        return f"takes {len(bound)} arguments, {use.positional} are given"
    strange = use.keywords - {*bound, *(argument.arg for argument in arguments.kwonlyargs)}
    if strange and arguments.kwarg is None:
        return f"does not take {', '.join(sorted(strange))}"
    return ""


def report(root: Path, adapter: Path = ADAPTER) -> Iterator[tuple[str, str, str]]:
    """Yield (state, name, note) for all that the adapter relies on. Raises ValueError for a folder that is no
    checkout."""
    checkout, faults = Checkout(root), {}
    for path in sorted(adapter.glob("*.py")):
        visitor = Uses(path)
        visitor.visit(ast.parse(path.read_text(encoding="utf-8")))
        for use in visitor.found:
            wrong = find_fault(use, checkout)
            faults[use.name] = faults.get(use.name) or (f"{wrong} ({use.place})" if wrong else "")
    for name, attributes in ATTRIBUTES.items():
        faults |= {
            f"{name}.{attribute}": "" if checkout.find(f"{name}.{attribute}") is not None else "is not there"
            for attribute in attributes
        }
    optional = {f"{name}.{attribute}" for name, attributes in OPTIONAL.items() for attribute in attributes}
    for name, wrong in sorted(faults.items()):
        if name not in optional:
            yield ("MISSING" if wrong else "ok", name, wrong or write_signature(checkout.signature(name)))
    for name in sorted(optional):
        yield ("optional", name, "there" if checkout.find(name) is not None else "not there")


def write_signature(arguments: ast.arguments | None) -> str:
    """Write a signature in words of source."""
    return "" if arguments is None else f"({ast.unparse(arguments)})"


def main(argv: list[str] | None = None) -> int:
    """Print the list; 1 where something is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "checkout", type=Path, metavar="CHECKOUT", help="the folder of ComfyUI, with folder_paths.py in it"
    )
    try:
        rows = list(report(parser.parse_args(argv).checkout))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    for state, name, note in rows:
        print(f"{state:8} {name} {note}".rstrip())
    missing = [name for state, name, _ in rows if state == "MISSING"]
    print(
        f"{len(rows) - len(missing)} of {len(rows)} names are there"
        + (f"; missing: {', '.join(missing)}" if missing else "")
    )
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main())
