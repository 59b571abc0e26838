"""Draw and measure again all that the embedded model shows in the documents: `python -m tools.figures JUDGE`.

JUDGE: folder of the judge, as for `python -m vd_core evaluate --judge`, which trains one where there is none.
Pictures and cards are written in place; figures are printed, to be copied into docs/figures.md and the model
card.
"""

from __future__ import annotations

import subprocess
import sys

PROGRAMS = (
    ("tools.figures.pictures",),
    ("tools.workflow_cards",),
    ("vd_core", "evaluate", "--judge", "JUDGE"),
    ("tools.figures.few_steps", "JUDGE"),
    ("tools.figures.sharpness", "JUDGE"),
    ("tools.figures.breadth", "JUDGE"),
    ("tools.figures.blending",),
    ("tools.figures.regions",),
    ("tools.figures.latents",),
    ("tools.figures.app", "32"),
    ("pytest", "-rP", "tests/nodes/test_steering.py", "tests/nodes/test_guidance_effects.py"),
    ("pytest", "-rP", "tests/vd_core/test_ranking.py", "-k", "embedded"),
)


def main() -> None:
    """Run the programs one after the other; stop at the first that fails."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    for program in PROGRAMS:
        print("==", *program, flush=True)
        words = [sys.argv[1] if word == "JUDGE" else word for word in program]
        if subprocess.run([sys.executable, "-m", *words]).returncode:
            raise SystemExit(f"{program[0]} failed; the figures above it stand.")


if __name__ == "__main__":
    main()
