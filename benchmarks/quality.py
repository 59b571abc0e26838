"""What savings that change results cost: `python benchmarks/quality.py [--samples 8]`, on the embedded model,
which needs no download.

Every flow samples from the same noise under the same contexts: with fewer steps and other samplers, beside
200 steps of DDIM; and with weights of fewer bits, beside float64. Prints the distance of the latents, |x -
reference| / |reference|, and the evaluations of the network per sample, of which a guided step has two.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.cases import FLOWS
from benchmarks.measure import add_machine_options, write_record
from vd_core import embedded
from vd_core.checkpoints.load import load
from vd_core.context import Blend, Context
from vd_core.flows import VersatileDiffusion
from vd_core.sampling.corrections import PLAIN, GuidanceOptions
from vd_core.sampling.noise import sample_noise
from vd_core.sampling.options import Sampling
from vd_core.training.dataset import CaptionedPictures

CFG = 2.0  # of the embedded model


@dataclass(frozen=True)
class Setting:
    """How samples are made; stored: the type that weights are rounded to, if it is not that of the
    computation."""

    sampler: str = "dpmpp_2m"
    steps: int = 20
    guidance: GuidanceOptions = PLAIN
    dtype: torch.dtype = torch.float32
    stored: torch.dtype | None = None


STEPS = {
    "ddim, 200 steps": Setting("ddim", 200),
    "ddim, 50 steps": Setting("ddim", 50),
    "ddim, 20 steps": Setting("ddim", 20),
    "unipc, 20 steps": Setting("unipc"),
    "dpmpp_2m, 20 steps": Setting(),
    "dpmpp_2m, 20 steps, guided from 0.2 to 0.8": Setting(guidance=GuidanceOptions(start=0.2, end=0.8)),
    "dpmpp_2m, 10 steps": Setting(steps=10),
}
BITS = {
    "float64": Setting(dtype=torch.float64),
    "float32": Setting(),
    "float16": Setting(dtype=torch.float16),
    "bfloat16": Setting(dtype=torch.bfloat16),
    # As ComfyUI runs them on this processor, to the bit: tests/live/test_small_cards.py.
    "float32, weights float8_e4m3fn": Setting(stored=torch.float8_e4m3fn),
    "float32, weights float8_e5m2": Setting(stored=torch.float8_e5m2),
}
TABLES = {"steps": STEPS, "bits": BITS}  # the first setting of each is its reference


@torch.inference_mode()
def read_contexts(model: VersatileDiffusion, samples: int) -> dict[str, Context]:
    """Read held-out pictures and their captions, by kind."""
    data = CaptionedPictures.load(embedded.FOLDER)
    chosen = data.held_out[:samples]
    return {
        "text": model.encode_text([data.captions[number] for number in chosen]),
        "image": model.encode_image(data.pixels[chosen]),
    }


def draw_samples(
    model: VersatileDiffusion, data: str, contexts: Blend, setting: Setting
) -> tuple[Tensor, int]:
    """Sample latents of a flow, in float64 if the network is, else in float32; and how often the network was
    evaluated for each."""
    sizes, samples = model.config.diffuser.data[data], len(contexts[0].tokens)
    shape = (
        (samples, sizes.channels, sizes.side, sizes.side)
        if sizes.layers == "2d"
        else (samples, sizes.channels)
    )
    diffuser, evaluations = (
        copy.deepcopy(model.diffuser).to(setting.stored or setting.dtype).to(setting.dtype),
        [],
    )
    diffuser.register_forward_pre_hook(
        lambda module, inputs, names: evaluations.append(names["evaluations"]), with_kwargs=True
    )
    own = model.replace(diffuser=diffuser)
    latent = torch.zeros(shape, dtype=torch.float64 if setting.dtype == torch.float64 else torch.float32)
    sampling = Sampling(setting.sampler, setting.steps, CFG, guidance=setting.guidance)
    x = own.sample(data, contexts, latent, sample_noise(0), sampling)
    return x.double(), sum(evaluations)


def measure_distances(model: VersatileDiffusion, table: str, samples: int) -> list[dict]:
    """Measure one row per setting of a table, with the distance to its reference for every flow."""
    contexts, settings = read_contexts(model, samples), TABLES[table]
    rows = [{"table": table, "what": name, "distance": {}} for name in settings]
    for flow, (data, kinds) in FLOWS.items():
        blend = [contexts[kind] for kind in kinds]
        reference = None
        for row, setting in zip(rows, settings.values(), strict=True):
            x, row["evaluations"] = draw_samples(model, data, blend, setting)
            reference = x if reference is None else reference
            row["distance"][flow] = float((x - reference).norm() / reference.norm())
    return rows


def main(arguments: Sequence[str] | None = None) -> list[dict]:
    """Measure, print and write what the command line asks for; returns the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_machine_options(parser)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    model, rows = load(embedded.MODEL), []
    for table in options.only:
        rows += measure_distances(model, table, options.samples)
        for row in rows:
            if row["table"] == table:
                compared = ", ".join(f"{flow} {value:.2g}" for flow, value in row["distance"].items())
                print(f"{row['what']:44} {row['evaluations']:3} evaluations; {compared}", flush=True)
        write_record("quality", options, rows)
    return rows


if __name__ == "__main__":
    main()
