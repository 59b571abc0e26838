"""The rules that a node pack must keep, and what bandit and pip-audit say where they are installed.

python -m tools.supply_chain
"""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("nodes", "vd_core", "seecoder")
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_MODULES = {"subprocess", "pickle", "marshal", "shelve", "ctypes", "requests", "pip"}
NAMED = {  # (file, module): why it may be there
    ("vd_core/checkpoints/read.py", "pickle"): "the class of an error",
    (
        "vd_core/training/emoji.py",
        "subprocess",
    ): "fetches the training data when it is run as a program; nothing imports it",
}


def list_files() -> list[Path]:
    """List the files that ComfyUI may import."""
    return [
        ROOT / "__init__.py",
        *(file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))),
    ]


def find_broken_rules() -> Iterator[str]:
    """Find what in these files a registry of node packs forbids."""
    for file in list_files():
        name = file.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in FORBIDDEN_CALLS
            ):
                yield f"{name}:{node.lineno} calls {node.func.id}."
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("system", "popen")
            ):
                yield f"{name}:{node.lineno} calls {node.func.attr}."
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for module in {module.split(".")[0] for module in modules} & FORBIDDEN_MODULES:
                if (name, module) not in NAMED:
                    yield f"{name}:{node.lineno} imports {module}."


def run_tool(name: str, *arguments: str) -> bool:
    """Run a tool that may not be installed. Return whether it has nothing to say."""
    if importlib.util.find_spec(name) is None:
        print(f"{name}: skipped, it is not installed")
        return True
    done = subprocess.run([sys.executable, "-m", name, *arguments], cwd=ROOT, capture_output=True, text=True)
    offline = any(word in done.stderr for word in ("ConnectionError", "Max retries", "timed out"))
    found = done.stdout + done.stderr if done.returncode else "nothing found"
    print(f"{name}: {'skipped, it needs the network' if offline else found}")
    return offline or not done.returncode


def main() -> int:
    """Check all; exit status 1 if a rule is broken or a tool found something."""
    broken = list(find_broken_rules())
    print(*broken or ["rules of node packs: kept"], sep="\n")
    clean = run_tool("bandit", "-q", "-r", "-lll", *PACKAGES, "runner", "run_workflow.py")
    return 0 if run_tool("pip_audit", "-r", "requirements.txt") and clean and not broken else 1


if __name__ == "__main__":
    sys.exit(main())
