"""Measure how fast the flows are.

`python benchmarks/speed.py [--size full] [--dtype bfloat16] [--peers diffusers core] [--compile]`

For each flow the seconds of a guided step beside those of the plain baseline, taking turns, and of a matrix
product as the yardstick; then the decoding of captions, and SeeCoder's backbone beside timm's Swin. Prints
medians, ratios (how many times as long the others take) and what is reached of the machine's matrix rate.
With --compile our steps are those of torch.compile, beside the eager ones; it prints how long compiling took
and how far the results are apart.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.baseline import count_flops, make_plain_diffuser, make_plain_step
from benchmarks.cases import CFG, FLOWS, SIZES, TIMESTEP, Case, add_size_options, make_case, randomize_
from benchmarks.measure import (
    DTYPES,
    add_machine_options,
    alternate,
    compute_matrix_rate,
    compute_ratios,
    make_matrix_product,
    write_record,
)
from benchmarks.peers import add_peer_options, make_peer_step
from seecoder.config import SeeCoderConfig, SwinConfig
from seecoder.swin import Swin
from vd_core.autoencoders.optimus import Optimus
from vd_core.diffuser.compiled import MODES
from vd_core.diffuser.model import Diffuser
from vd_core.sampling.guidance import guide

STEPS = 50  # per picture, as officially
BACKBONES = {
    "full": SwinConfig(),
    "small": SwinConfig(width=96, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24), window=8),
    "tiny": SeeCoderConfig.tiny().swin,
}


def make_step(case: Case, diffuser: Diffuser) -> Callable[[], Tensor]:
    """Make a guided step as the product runs it."""
    denoise = guide(diffuser, case.schedule, case.contexts, case.data, CFG)
    return lambda: denoise(case.latent, TIMESTEP)


def compile_twin(diffuser: Diffuser, mode: str) -> Diffuser:
    """Compile a twin of the same layers."""
    with torch.device("meta"):
        twin = Diffuser(diffuser.config, diffuser.data, diffuser.context).requires_grad_(False)
    twin.load_state_dict(diffuser.state_dict(), assign=True)
    twin.compile(mode)
    return twin


@torch.inference_mode()
def time_first_step(ours: Callable[[], Tensor], eager: Callable[[], Tensor]) -> dict:
    """Measure how long the first compiled step takes, and its distance to the eager one, |difference| /
    |eager|."""
    expected, start = eager(), time.perf_counter()
    found = ours()
    figures = {
        "first": time.perf_counter() - start,
        "difference": float((found - expected).norm() / expected.norm()),
    }
    print(f"compiled in {figures['first']:.3g} s, {figures['difference']:.2g} from eager", flush=True)
    return figures


def measure_row(
    functions: dict[str, Callable[[], object]], options: argparse.Namespace, dtype: torch.dtype
) -> dict:
    """Measure all contestants and the yardstick, taking turns -> the figures of a row."""
    seconds = alternate(
        functions | {"matrix": make_matrix_product(dtype, options.device)}, options.repeats, options.device
    )
    rate = compute_matrix_rate(seconds.pop("matrix"))
    return {
        "seconds": seconds,
        "medians": {name: median(values) for name, values in seconds.items()},
        "ratios": compute_ratios(seconds),
        "matrix_flops": rate,
    }


def measure_flow(flow: str, options: argparse.Namespace) -> dict:
    """Measure a guided step of a flow."""
    dtype = DTYPES[options.dtype]
    case = make_case(flow, options, dtype)
    functions, extra = {"ours": make_step(case, case.diffuser)}, {}
    if options.compile is not None:
        functions = {
            "ours": make_step(case, compile_twin(case.diffuser, options.compile)),
            "eager": functions["ours"],
        }
        extra = time_first_step(**functions)
    functions |= {"baseline": make_plain_step(case, make_plain_diffuser(case.diffuser))}
    if case.data == "image" and len(case.kinds) == 1:
        functions |= {name: make_peer_step(name, case) for name in options.peers}
    figures, cost = measure_row(functions, options, dtype), count_flops(case)
    step = figures["medians"]["ours"]
    return {
        **figures,
        **extra,
        "flops": cost,
        "achieved_flops": cost / step,
        "share": cost / step / figures["matrix_flops"],
        "per_second": case.batch / (STEPS * step),
    }


@torch.no_grad()
def measure_captions(options: argparse.Namespace) -> dict:
    """Measure decoding of sentences of the longest length: all together and cached, or each alone from its
    first token at every token."""
    dtype, config = DTYPES[options.dtype], SIZES[options.size].text_vae
    with torch.device("meta"):
        optimus = Optimus(config)
    optimus = randomize_(optimus.to(dtype).to_empty(device=options.device))
    plain = optimus if dtype == torch.float32 else randomize_(Optimus(config).to(options.device))
    latents = torch.randn(options.batch, config.latent_width).to(options.device, dtype)

    def cached() -> None:
        tokens, memory = (
            torch.zeros(options.batch, 1, dtype=torch.long, device=options.device),
            optimus.start_cache(latents),
        )
        for _ in range(config.max_tokens - 1):
            logits, memory = optimus.step(latents, tokens, memory)
            tokens = logits[:, -1:].argmax(dim=-1)

    def uncached() -> None:
        for latent in latents.float().split(1):
            tokens = torch.zeros(1, 1, dtype=torch.long, device=options.device)
            for _ in range(config.max_tokens - 1):
                tokens = torch.cat([tokens, plain.logits(latent, tokens)[:, -1:].argmax(dim=-1)], dim=1)

    figures = measure_row({"ours": cached, "baseline": uncached}, options, dtype)
    return {**figures, "per_second": options.batch / figures["medians"]["ours"]}


@torch.no_grad()
def measure_backbone(options: argparse.Namespace) -> dict:
    """Measure SeeCoder's backbone beside timm's Swin of the same sizes and type."""
    from timm.models.swin_transformer import SwinTransformer

    dtype, sizes = DTYPES[options.dtype], BACKBONES[options.size]
    ours = randomize_(Swin(sizes).to(options.device, dtype).eval())
    theirs = SwinTransformer(
        img_size=options.pixels,
        window_size=sizes.window,
        embed_dim=sizes.width,
        depths=sizes.depths,
        num_heads=sizes.heads,
        num_classes=0,
    )
    theirs = randomize_(theirs.to(options.device, dtype).eval())
    images = torch.rand(options.batch, 3, options.pixels, options.pixels).to(options.device, dtype)
    figures = measure_row(
        {"ours": lambda: ours(images), "timm": lambda: theirs.forward_features(images)}, options, dtype
    )
    return {**figures, "per_second": options.batch / figures["medians"]["ours"]}


ROWS = {**dict.fromkeys(FLOWS, measure_flow), "captions": measure_captions, "backbone": measure_backbone}


def write_line(row: dict) -> str:
    """Write a row for people."""
    medians = ", ".join(f"{name} {seconds:.4g} s" for name, seconds in row["medians"].items())
    compared = ", ".join(f"{value:.2f}x {name}" for name, value in row["ratios"].items())
    rate = (
        f"; {row['achieved_flops'] / 1e12:.3f} TFLOP/s, {row['share']:.0%} of the matrix rate"
        if "share" in row
        else ""
    )
    return f"{row['what']:16} {medians}; {compared}{rate}; {row['per_second']:.3g} per second"


def main(arguments: Sequence[str] | None = None) -> list[dict]:
    """Measure, print and write what the command line asks for; returns the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_size_options(parser)
    add_machine_options(parser)
    add_peer_options(parser)
    parser.add_argument(
        "--compile",
        nargs="?",
        const="default",
        choices=MODES[1:],
        help="torch.compile our steps, in this mode",
    )
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), help="what to measure")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    settings = {name: getattr(options, name) for name in ("size", "pixels", "batch", "dtype", "repeats")}
    rows = []
    for what in options.only:
        figures = ROWS[what](what, options) if what in FLOWS else ROWS[what](options)
        rows.append({"what": what, **settings, **figures})
        print(write_line(rows[-1]), flush=True)
        write_record("speed", options, rows)  # after every row: a run that is stopped keeps them
    return rows


if __name__ == "__main__":
    main()
