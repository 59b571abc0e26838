"""`versatile-diffusion train`: train on pictures of your own."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...choices import FLOWS, PRECISIONS, RECIPES
from ...embedded import MODEL
from .runs import add_run_options


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "data",
        type=Path,
        metavar="DATA",
        help="folder of pictures with .txt captions or a list, webdataset .tar, parquet",
    )
    parser.add_argument(
        "--model",
        nargs="+",
        default=[MODEL],
        metavar="FILE",
        help="files of the model; default: the embedded one",
    )
    parser.add_argument(
        "--size",
        type=int,
        metavar="PIXELS",
        help="side of the pictures; default: the model's, 512, or 64 of the embedded one",
    )
    parser.add_argument("--recursive", action="store_true", help="take the subfolders of DATA too")
    parser.add_argument(
        "--background",
        default="white",
        metavar="COLOR",
        help="colour under transparent pictures; default: white",
    )
    parser.add_argument(
        "--accept-changes",
        action="store_true",
        help="go on with a run whose data, model or settings have changed; its checkpoints say so",
    )
    parser.add_argument(
        "--cfg",
        type=float,
        help="guidance on the sheets and of drawn prior pictures; default: 7.5, of small models 2",
    )

    what = parser.add_argument_group("what is trained")
    what.add_argument(
        "--flows",
        nargs="+",
        default=["text_to_image"],
        metavar="FLOWS",
        help=f"one entry per stage: {', '.join(RECIPES)} (the paper's recipe), or flows joined by +, of "
        f"{', '.join(FLOWS)}",
    )
    what.add_argument(
        "--steps", nargs="+", type=int, default=[1000], metavar="N", help="steps of each stage; default: 1000"
    )
    what.add_argument(
        "--from-scratch",
        action="store_true",
        help="initialise the diffuser's weights at random and train them from nothing; the model's sizes, "
        "CLIP and autoencoders stay. Flows that are left out of --flows are lost",
    )
    what.add_argument(
        "--target",
        choices=("eps", "v"),
        help="what it learns to predict from scratch; default: what the model predicts",
    )
    what.add_argument(
        "--lora",
        type=int,
        metavar="RANK",
        help="train a LoRA of this rank, not the weights themselves; 8 is a good start",
    )
    what.add_argument("--alpha", type=float, help="a LoRA is scaled by alpha / rank; default: the rank")
    what.add_argument(
        "--layers",
        nargs="+",
        default=["context:attn"],
        metavar="LAYERS",
        help="of the LoRA: context, context.text, context.image, data.image, data.text, time_embed; with "
        ":attn, :attn2 or :ff only those; default: context:attn",
    )
    prior = parser.add_argument_group("DreamBooth: keep what the model knows of the class")
    prior.add_argument("--prior", type=Path, metavar="DATA", help="pictures of the class, with captions")
    prior.add_argument(
        "--prior-prompts",
        nargs="+",
        default=[],
        metavar="TEXT",
        help="or prompts, for which the model draws them",
    )
    prior.add_argument(
        "--prior-pictures", type=int, default=100, metavar="N", help="how many it draws; default: 100"
    )
    prior.add_argument(
        "--prior-weight", type=float, default=1.0, metavar="LAMBDA", help="L + LAMBDA L_prior; default: 1"
    )

    how = parser.add_argument_group("how it is trained")
    how.add_argument(
        "--batch", type=int, default=4, help="samples per step and flow, over all processes; default: 4"
    )
    how.add_argument(
        "--lr",
        type=float,
        help="learning rate; default: 1e-5, with --lora or --from-scratch 1e-4; small models: 10 times that",
    )
    how.add_argument(
        "--warmup",
        type=int,
        default=100,
        metavar="STEPS",
        help="steps in which the learning rate rises; default: 100",
    )
    how.add_argument(
        "--dropout", type=float, default=0.1, help="share of dropped contexts, for guidance; default: 0.1"
    )
    how.add_argument(
        "--ema",
        type=float,
        default=0.999,
        help="decay of the averaged weights; 0 saves their memory; default: 0.999",
    )
    how.add_argument("--weight-decay", type=float, default=0.01, help="default: 0.01")
    how.add_argument(
        "--gradient-scales",
        nargs="+",
        default=[],
        metavar="GROUP=X",
        help="of global, data, context; 0 freezes a group",
    )
    how.add_argument(
        "--lr-scales", nargs="+", default=[], metavar="GROUP=X", help="of the learning rate, in the same way"
    )
    how.add_argument(
        "--min-snr", type=float, metavar="GAMMA", help="min-SNR weights of the noise levels (5 in the paper)"
    )
    how.add_argument(
        "--multiscale",
        type=int,
        metavar="SIDE",
        help="simple diffusion's loss on halved latents down to this side",
    )
    how.add_argument(
        "--shift",
        action="store_true",
        help="train larger latents than the model's own on simple diffusion's shifted schedule",
    )

    memory = parser.add_argument_group("how it fits into memory")
    memory.add_argument(
        "--frozen",
        choices=PRECISIONS,
        default="fp32",
        help="of the frozen weights under a LoRA; bf16 halves their memory",
    )
    memory.add_argument(
        "--checkpointing",
        action="store_true",
        help="gradient checkpointing: much less memory, a third more time",
    )
    memory.add_argument(
        "--shard",
        action="store_true",
        help="under torchrun: divide weights, gradients, optimizer and average among the processes",
    )
    add_run_options(parser)
