"""Compare this project with recorded outputs of the official code and of diffusers: `python tests/parity.py
DIR…`.

Walks the folders for cases (a config.json beside io.safetensors, or the entries of a cases.json beside a
pipeline's folder), runs each through the public code with the weights that the case names, or that the
`recipe.py` of its set regenerates, and prints one line per case with the tensor that comes nearest to its
limit. Exit status 1 when a case fails.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

from golden_cases import diffusers, normal, seecoder, vd  # noqa: E402 - from the folders above

HALF = 5e-3  # what rounding to float16 may cost, as a share of the largest value


@dataclass(frozen=True)
class Case:
    """One folder of golden values. entry: the case of a cases.json, "" where the folder is one case."""

    folder: Path
    entry: str = ""

    @cached_property
    def config(self) -> dict:
        """What was run, with which parameters and limits."""
        if self.entry:
            return diffusers.entries(self.folder)[self.entry]
        return json.loads((self.folder / "config.json").read_text(encoding="utf-8"))

    @cached_property
    def io(self) -> dict[str, Tensor]:
        """Recorded inputs and outputs."""
        path = self.folder / "io.safetensors"
        return load_file(path) if path.exists() else {}

    @property
    def name(self) -> str:
        """The kind of case."""
        return self.config.get("case", self.config.get("module", self.folder.name))

    def path(self, key: str) -> Path:
        """Return a path of the config, which is relative to the case."""
        return self.folder / self.config[key]

    @cached_property
    def root(self) -> Path:
        """The folder of the set, which holds the recipe."""
        return next(
            (folder for folder in self.folder.resolve().parents if (folder / "recipe.py").exists()),
            self.folder.parent,
        )

    @cached_property
    def sizes(self) -> dict:
        """Model sizes: those of the shared JSON, then those that the case states itself."""
        shared = self.path("sizes") if "sizes" in self.config else self.root / "_shared" / "vd_tiny.json"
        return {**(json.loads(shared.read_text(encoding="utf-8")) if shared.exists() else {}), **self.config}

    def weights(self, prefix: str = "") -> Path:
        """The weights file of the case; where it is absent, the recipe's tensors under `prefix` as a file of
        their own, without it.
        """
        path = self.path("weights")
        return path if path.exists() else regenerated(self.root, prefix)

    def limit(self, name: str) -> float:
        """Return the largest allowed error of one tensor."""
        limits = self.config.get("atol", self.config.get("tolerance"))
        if not isinstance(limits, dict):
            return limits
        keys = name, name.rpartition(".")[2], "default", "relative", "max_abs_over_max_ref"
        return next(limits[key] for key in keys if key in limits)

    @property
    def recipe(self) -> ModuleType:
        """What makes the random weights and inputs of the set."""
        return recipe_of(self.root)

    def scaled(self, error: Tensor, golden: Tensor) -> Tensor:
        """Errors as the limit counts them: absolute, as shares of each golden value (absolute where that is
        0), or of the largest one.
        """
        if "relative" in self.config.get("atol", {}):
            return torch.where(golden == 0, error, error / golden.abs().clamp(min=1e-300))
        if "max_abs_over_max_ref" in self.config.get("tolerance", {}):
            return error / golden.abs().max().clamp(min=1e-300)
        return error


@lru_cache
def recipe_of(root: Path) -> ModuleType:
    """Return the recipe.py of the set at `root`."""
    spec = spec_from_file_location("recipe", root / "recipe.py")
    recipe = module_from_spec(spec)
    spec.loader.exec_module(recipe)
    return recipe


@lru_cache
def regenerated(root: Path, prefix: str) -> Path:
    """Weights made by the recipe of the set at `root`, in a temporary file that lives as long as this
    process.
    """
    recipe = recipe_of(root)
    sizes = json.loads((root / "_shared" / "vd_tiny.json").read_text(encoding="utf-8"))
    tensors = {
        key.removeprefix(prefix): tensor
        for key, tensor in recipe.tiny_weights(sizes).items()
        if key.startswith(prefix)
    }
    path = Path(scratch().name, f"{prefix or 'whole'}{abs(hash(root))}.safetensors")
    save_file(tensors, path)
    return path


@lru_cache
def scratch() -> tempfile.TemporaryDirectory:
    """Return a folder that vanishes with this process."""
    return tempfile.TemporaryDirectory(prefix="vd-parity-")


@dataclass
class Verdict:
    """The comparison that came nearest to its limit, and what failed or was skipped on the way."""

    name: str = "-"
    error: float = 0.0
    limit: float = 0.0
    failure: str = ""
    skipped: str = ""

    @property
    def line(self) -> str:
        """What is printed for a case."""
        note = f"  {self.failure}" if self.failure else ""
        return f"{self.error:.3g} {self.limit:.3g}  ({self.name}){note}" + (
            f"  skipped: {self.skipped}" if self.skipped else ""
        )


def judge(case: Case, comparisons: Iterator[tuple[str, object, object]]) -> Verdict:
    """Compare (name, ours, golden) one by one. Floats within the limit (relative where the case says so); all
    else equal; None skips.
    """
    verdict, worst = Verdict(), -1.0
    for name, ours, golden in comparisons:
        if ours is None:
            verdict.skipped = f"{verdict.skipped}, {name}".lstrip(", ")
        elif isinstance(golden, Tensor) and golden.is_floating_point() or name.endswith("uint8_nhwc"):
            limit = max(case.limit(name), HALF if golden.dtype == torch.float16 else 0)
            ours, golden = torch.as_tensor(ours).double(), golden.double()
            if ours.shape != golden.shape:
                verdict.failure = f"{name} has shape {list(ours.shape)}, not {list(golden.shape)}"
                continue
            error = case.scaled((ours - golden).abs(), golden)
            # A NaN is no agreement.
            largest = float(error.nan_to_num(nan=float("inf")).max())
            if largest / max(limit, 1e-30) > worst:
                worst = largest / max(limit, 1e-30)
                verdict.name, verdict.error, verdict.limit = name, largest, limit
            if largest > limit:
                verdict.failure = f"{name} is off by {largest:.3g}"
        elif not (torch.equal(ours, golden) if isinstance(golden, Tensor) else ours == golden):
            verdict.failure = f"{name} differs: {str(ours)[:60]} instead of {str(golden)[:60]}"
    return verdict


def find_cases(folders: list[str]) -> list[Case]:
    """All cases below the folders, in order of their paths."""
    for folder in folders:
        if not Path(folder).is_dir():
            raise SystemExit(f"There is no folder {folder}.")
    found = [path for folder in folders for path in sorted(Path(folder).rglob("*.json"))]
    sets = [path.parent for path in found if path.name == "cases.json"]
    alone = [
        path.parent for path in found if path.name == "config.json" and not set(sets) & set(path.parents)
    ]
    return [Case(path) for path in alone] + [
        Case(path, entry) for path in sets for entry in list_entries(path)
    ]


def list_entries(folder: Path) -> list[str]:
    """Return the cases of a cases.json; of a broken one its name, a case that fails with the reason."""
    try:
        return list(diffusers.entries(folder))
    except Exception:  # a broken set can fail in any way, and must not hide the others
        return ["cases.json"]


def run(case: Case) -> Verdict:
    """Run one case with the code that knows its kind. Whatever breaks is the failure of this case alone."""
    runners = vd.RUNNERS | seecoder.RUNNERS | diffusers.RUNNERS
    try:
        kind = max((prefix for prefix in runners if case.name.startswith(prefix)), key=len, default=None)
        if kind is None:
            return Verdict(failure=f"no code knows cases of the kind {case.name}")
        with torch.inference_mode(), normal.as_recorded():
            return judge(case, runners[kind](case))
    except Exception as error:  # a broken case can fail in any way, and must not hide the others
        return Verdict(failure=f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}")


def main(folders: list[str]) -> int:
    """Print a line per case and the sum; 0 when all passed."""
    if not folders:
        print(__doc__)
        return 2
    passed = failed = 0
    for case in find_cases(folders):
        verdict = run(case)
        failed += bool(verdict.failure)
        passed += not verdict.failure
        print(
            "FAIL" if verdict.failure else "PASS",
            os.path.relpath(case.folder / case.entry),
            verdict.line,
            flush=True,
        )
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0 or passed == 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
