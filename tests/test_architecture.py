"""The arrows of the design: who may import whom, and where."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from vd_core.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("vd_core", "nodes", "seecoder", "runner")
OUTSIDE = {
    "comfy",
    "comfy_extras",
    "comfy_api",
    "folder_paths",
    "latent_preview",
    "nodes",
    "server",
    "execution",
}

# What each module or sub-package of vd_core may import of the others. A new one needs a line here.
ARROWS = {
    "config": set(),
    "context": {"placement", "regions"},
    "regions": {"placement"},
    "color": set(),
    "files": set(),
    "finite": set(),
    "choices": set(),
    "foreign": set(),
    "memory": set(),
    "pictures": {"foreign", "memory", "placement"},
    "placement": set(),
    "ranking": {"sampling"},
    "energies": set(),
    "prompts": set(),
    "tokenizers": {"prompts"},
    "diffuser": {"config", "context"},
    "encoders": {"config", "pictures", "placement", "tokenizers"},
    "autoencoders": {"config", "finite", "pictures", "placement", "tokenizers"},
    "sampling": {"choices", "config", "context", "diffuser", "placement", "regions"},
    "interpolation": {"context"},
    "lettering": set(),
    "sheet": {"lettering", "pictures"},
    "plots": {"lettering"},
    "explain": {"encoders", "plots", "sampling"},
    "flows": {
        *("config", "context", "diffuser", "encoders", "autoencoders", "placement", "sampling"),
        "tokenizers",
    },
    "checkpoints": {
        *(
            "choices",
            "config",
            "context",
            "files",
            "flows",
            "diffuser",
            "encoders",
            "autoencoders",
            "foreign",
            "placement",
            "sampling",
        ),
        "tokenizers",
    },
    "commands": {
        *("bulk", "checkpoints", "choices", "config", "context", "diffuser", "embedded", "files", "flows"),
        *("pictures", "placement", "sampling", "training"),
    },
    "embedded": set(),
    "runs": {"datasets", "files"},
    "datasets": {"files", "foreign", "pictures"},
    "bulk": {
        *(
            "checkpoints",
            "choices",
            "config",
            "context",
            "datasets",
            "diffuser",
            "embedded",
            "files",
            "flows",
            "memory",
            "pictures",
            "placement",
            "ranking",
            "runs",
        ),
        *("finite", "sampling"),
    },
    "training": {
        "choices",
        "config",
        "context",
        "files",
        "flows",
        "diffuser",
        "encoders",
        "autoencoders",
        "sampling",
        "tokenizers",
        "pictures",
        "plots",
        "ranking",
        "sheet",
        "checkpoints",
        "embedded",
        "datasets",
        "runs",
    },
}
ANYTHING = {"__init__", "__main__"}
# a program: it trains SeeCoder against the embedded Versatile Diffusion
TRAINER = ROOT / "seecoder" / "training.py"


def python_files(*folders):
    """Our own .py files below some folders, hidden ones left out."""
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    return [file for file in files if not any(part.startswith(".") for part in file.relative_to(ROOT).parts)]


def imports(file):
    """(level, dotted name) of every import of a file, those inside functions too; `from . import a` counts as
    `.a`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.level, node.module
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, alias.name) for alias in node.names)


def targets(file, package):
    """Dotted paths, from the root of `package`, of what a file imports from it."""
    folder = file.relative_to(ROOT / package).parts[:-1]
    for level, name in imports(file):
        if level:
            assert level <= len(folder) + 1, f"{file} imports from outside {package}"
            yield ".".join([*folder[: len(folder) + 1 - level], name])


def violations():
    """Every arrow inside vd_core that the table does not know."""
    for file in python_files("vd_core"):
        owner = file.relative_to(ROOT / "vd_core").parts[0].removesuffix(".py")
        if owner not in ANYTHING:
            for target in targets(file, "vd_core"):
                if (head := target.split(".")[0]) not in ARROWS[owner] | {owner}:
                    yield f"{file.relative_to(ROOT)} imports {head}"


def test_the_walk_sees_the_code():
    assert len(python_files("vd_core")) > 30
    assert set(targets(ROOT / "vd_core" / "sampling" / "guidance.py", "vd_core")) >= {
        "context",
        "diffuser.kv_cache",
        "sampling.schedule",
    }


def test_every_module_has_its_arrows():
    paths = [
        path
        for path in (ROOT / "vd_core").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    ]
    modules = {path.name.removesuffix(".py") for path in paths}
    assert modules - ANYTHING == set(ARROWS)


def test_arrows_of_vd_core():
    assert not list(violations())


def test_samplers_see_only_a_callable():
    assert set(targets(ROOT / "vd_core" / "sampling" / "samplers.py", "vd_core")) == {
        "sampling.schedule",
        "sampling.options",
    }


@pytest.mark.parametrize("package", ["vd_core", "seecoder"])
def test_packages_are_relative_inside_and_know_neither_the_host_nor_each_other(package):
    for file in python_files(package):
        if file == TRAINER:
            continue
        absolute = {name.split(".")[0] for level, name in imports(file) if not level}
        assert not absolute & (OUTSIDE | set(PACKAGES)), file
        list(targets(file, package))  # fails for `from ...` beyond the package


def test_seecoder_stands_alone():
    """Beside the standard library it needs torch, einops and safetensors only; its trainer, which is a
    program, needs vd_core."""
    files = [file for file in python_files("seecoder") if file != TRAINER]
    absolute = {name.split(".")[0] for file in files for level, name in imports(file) if not level}
    assert absolute - sys.stdlib_module_names == {"torch", "einops", "safetensors"}


def test_nobody_imports_the_runner_and_it_imports_the_library_alone():
    for file in python_files("vd_core", "seecoder", "nodes"):
        assert "runner" not in {name.split(".")[0] for level, name in imports(file) if not level}, file
    ours = {
        name.split(".")[0] for file in python_files("runner") for level, name in imports(file) if not level
    } & {*PACKAGES}
    assert ours == {"vd_core"}


def test_to_talk_to_a_server_takes_neither_torch_nor_nodes():
    """Only what a graph needs in this process imports torch: the other modules of the runner start in a
    moment."""
    modules = {file.stem for file in python_files("runner")} - {"core_nodes", "in_process", "__init__"}
    done = (
        f"import sys; from runner import {', '.join(sorted(modules))}; print({{'torch', 'numpy', 'PIL'}} & "
        "{*sys.modules})"
    )
    said = subprocess.run([sys.executable, "-c", done], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout == "set()\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], *([command, "--help"] for command in COMMANDS)])
def test_help_of_a_command_takes_no_torch(arguments):
    """So that it comes at once; what a command needs is imported when it runs."""
    done = (
        "import contextlib, io, sys\nfrom vd_core.__main__ import main\nshown = io.StringIO()\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(shown), "
        "contextlib.redirect_stderr(shown):\n"
        "    main(sys.argv[1:])\n"
        "print(shown.getvalue().split()[0], {'torch', 'numpy', 'PIL', 'transformers'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", done, *arguments]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout == "usage: set()\n"


def test_only_one_folder_touches_comfyui():
    host = ROOT / "nodes" / "host" / "comfyui"
    for file in [*python_files(*PACKAGES), *ROOT.glob("*.py")]:
        if not file.is_relative_to(host):
            absolute = {name.split(".")[0] for level, name in imports(file) if not level}
            assert not absolute & (OUTSIDE - {"nodes"}), file


def test_that_folder_is_imported_only_inside_comfyui():
    for file in python_files(*PACKAGES):
        if not file.is_relative_to(ROOT / "nodes" / "host"):
            assert not any(level and "comfyui" in name for level, name in imports(file)), file


def test_inner_init_files_import_none_of_our_modules():
    for file in python_files("vd_core", "seecoder"):
        if file.name == "__init__.py" and file.parent.parent != ROOT:
            assert not any(level for level, _ in imports(file)), file


def test_files_are_short_and_named_after_what_they_hold():
    for file in [*python_files(*PACKAGES), *ROOT.glob("*.py")]:
        assert file.name not in ("utils.py", "helpers.py", "common.py", "misc.py"), file
        lines = file.read_text(encoding="utf-8").count("\n")
        assert lines <= 350, f"{file.relative_to(ROOT)} has {lines} lines"
