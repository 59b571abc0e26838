"""Break the code on purpose, and see whether the tests notice: `python -m tools.mutations [NAME …]`.

Each mutation changes one place of a copy of the checkout as a slip would, and runs the tests that must fail
then. Exit status 1 if one of them goes unnoticed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GUIDANCE, SCHEDULE = "vd_core/sampling/guidance.py", "vd_core/sampling/schedule.py"
CONTEXT, TOKENIZERS = "vd_core/context.py", "vd_core/tokenizers.py"
CLIP, OPTIMUS, IMAGE_KL = (
    f"vd_core/{name}.py" for name in ("encoders/clip", "autoencoders/optimus", "autoencoders/image_kl")
)


@dataclass(frozen=True)
class Mutation:
    """`old`, which stands once in `file`, becomes `new`; one of `tests` must fail then."""

    name: str
    file: str
    old: str
    new: str
    tests: str

    def change(self, text: str) -> str:
        """Return the file's text with the slip in it. Raises ValueError where the code has moved on."""
        if text.count(self.old) != 1:
            raise ValueError(
                f"{self.name}: {self.file} has {self.old!r} {text.count(self.old)} times, not once."
            )
        return text.replace(self.old, self.new)


TEST_GUIDANCE, TEST_SCHEDULE = (
    "tests/vd_core/sampling/test_guidance.py",
    "tests/vd_core/sampling/test_schedule.py",
)
TEST_CONTEXT, TEST_TOKENIZERS = "tests/vd_core/test_context.py", "tests/vd_core/test_tokenizers.py"
TEST_CLIP, TEST_WRITING = "tests/vd_core/encoders/test_clip.py", "tests/vd_core/autoencoders/test_writing.py"
TEST_IMAGE_KL, TEST_SAMPLERS = (
    "tests/vd_core/autoencoders/test_image_kl.py",
    "tests/vd_core/sampling/test_samplers.py",
)
GOLDEN = "tests/test_parity.py::test_equal_to_the_official_code"

MUTATIONS = (
    Mutation(
        "guidance-sum",
        GUIDANCE,
        "scale * (outputs[after] - outputs[before])",
        "scale * outputs[after] - outputs[before]",
        TEST_GUIDANCE,
    ),
    Mutation(
        "guidance-side",
        GUIDANCE,
        "[number < k for k in evaluated]",
        "[number <= k for k in evaluated]",
        TEST_GUIDANCE,
    ),
    Mutation("guidance-scale-1", GUIDANCE, "differences[0] == 1:", "differences[0] == 0:", TEST_GUIDANCE),
    Mutation(
        "guidance-rescale",
        "vd_core/sampling/corrections.py",
        "phi * ratio + (1 - phi)",
        "phi * ratio",
        "tests/vd_core/sampling/test_corrections.py",
    ),
    Mutation(
        "schedule-betas", SCHEDULE, "dtype=np.float64) ** 2", "dtype=np.float64)", f"{GOLDEN}[schedule]"
    ),
    Mutation("schedule-offset", SCHEDULE, "total // n) + 1", "total // n)", f"{GOLDEN}[schedule]"),
    Mutation(
        "schedule-end", SCHEDULE, "timesteps.new_zeros(1)", "timesteps.new_ones(1)", f"{GOLDEN}[ddim_image]"
    ),
    Mutation(
        "fidelity-rounds", SCHEDULE, "int(n * (1 - fidelity))", "round(n * (1 - fidelity))", TEST_SCHEDULE
    ),
    Mutation(
        "fidelity-level",
        SCHEDULE,
        "len(self) - 1 - k, 0",
        "len(self) - k, 0",
        f"{GOLDEN}[app_i2i_fidelity_color]",
    ),
    Mutation(
        "ddim-noise",
        "vd_core/sampling/samplers.py",
        "sqrt(1 - alpha_next - sigma**2)",
        "sqrt(1 - alpha_next)",
        TEST_SAMPLERS,
    ),
    Mutation("context-shares", CONTEXT, "[context.weight / total", "[context.weight", TEST_CONTEXT),
    Mutation(
        "context-ratio",
        CONTEXT,
        "(list_contexts(first), 1 - ratio), (list_contexts(second), ratio)",
        "(list_contexts(first), ratio), (list_contexts(second), 1 - ratio)",
        TEST_CONTEXT,
    ),
    Mutation(
        "context-scaled-unconditional",
        CONTEXT,
        "concatenate([c.unconditional for c in contexts])",
        "concatenate([c.unconditional * c.weight for c in contexts])",
        TEST_CONTEXT,
    ),
    Mutation(
        "context-text-norm",
        CLIP,
        "tokens / ends.norm(dim=-1)[:, None, None]",
        "F.normalize(tokens, dim=-1)",
        TEST_CLIP,
    ),
    Mutation(
        "context-image-mask",
        CLIP,
        "tokens if weights is None else tokens * weights",
        "tokens",
        f"{GOLDEN}[clip_context]",
    ),
    Mutation("decoding-log-variance", IMAGE_KL, "logvar.clamp(-30, 20)", "logvar", TEST_IMAGE_KL),
    Mutation("decoding-range", IMAGE_KL, "2 * own - 1", "own", f"{GOLDEN}[autokl]"),
    Mutation("decoding-deviation", IMAGE_KL, "(logvar / 2).exp()", "logvar.exp()", TEST_IMAGE_KL),
    Mutation(
        "decoding-latent-twice",
        OPTIMUS,
        "self.decoder.wte(tokens) + self.latent_to_embedding(latents)[:, None]",
        "self.decoder.wte(tokens)",
        f"{GOLDEN}[optimus]",
    ),
    Mutation("decoding-nucleus", OPTIMUS, "        before[0] = 0\n", "", TEST_WRITING),
    Mutation(
        "decoding-last-token", OPTIMUS, "row[-1] = self.words.eos", "row.append(self.words.eos)", TEST_WRITING
    ),
    Mutation("decoding-clean-up", TOKENIZERS, '    (" n\'t", "n\'t"),\n', "", TEST_TOKENIZERS),
    Mutation(
        "tokenizing-bert-pieces",
        "vd_core/config.py",
        "max_pieces: int = 77",
        "max_pieces: int = 79",
        TEST_TOKENIZERS,
    ),
    Mutation(
        "tokenizing-bert-case", TOKENIZERS, "self.encode(text.lower())", "self.encode(text)", TEST_TOKENIZERS
    ),
    Mutation(
        "tokenizing-clip-room",
        TOKENIZERS,
        "room = self.positions - 2",
        "room = self.positions - 1",
        TEST_TOKENIZERS,
    ),
    Mutation("tokenizing-gpt2-blank", TOKENIZERS, 'f" {text}" if text', "text if text", TEST_TOKENIZERS),
)


def copy_checkout(folder: Path) -> None:
    """Copy what git tracks; large files are links."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith((".py", ".toml")):
            shutil.copy(ROOT / name, folder / name)
        else:
            (folder / name).symlink_to(ROOT / name)


def find_noticing_test(folder: Path, mutation: Mutation) -> str:
    """Run the tests on the mutated copy. Return the one that failed, or "". Raises RuntimeError where they
    did not run at all."""
    file = folder / mutation.file
    sound = file.read_text(encoding="utf-8")
    file.write_text(mutation.change(sound), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutation.tests.split()]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    file.write_text(sound, encoding="utf-8")
    failed = re.search(r"^(?:FAILED|ERROR) (.*?)(?: - |$)", done.stdout, re.MULTILINE)
    if done.returncode not in (0, 1):
        raise RuntimeError(
            f"{mutation.name}: pytest ended with "
            f"{done.returncode}.\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return failed[1] if failed else ""


def main(names: list[str]) -> int:
    """Try the named mutations, or all; print a line for each, with the test that noticed it, and the sum."""
    chosen = [mutation for mutation in MUTATIONS if not names or mutation.name in names]
    with tempfile.TemporaryDirectory(prefix="mutations_") as folder:
        copy_checkout(Path(folder))
        found = []
        for mutation in chosen:
            found.append(find_noticing_test(Path(folder), mutation))
            print(f"{mutation.name}: {found[-1] or 'NOT NOTICED by ' + mutation.tests}", flush=True)
    print(f"{sum(map(bool, found))} of {len(found)} noticed")
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
