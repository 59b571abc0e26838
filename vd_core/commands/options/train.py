"""`versatile-diffusion train`: train on pictures of your own."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...choices import FLOWS, PRECISIONS, RECIPES
from ...embedded import MODEL
from .runs import add_run_options


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add = parser.add_argument
    data = "folder of pictures with .txt captions or a list, webdataset .tar, parquet"
    add("data", type=Path, metavar="DATA", help=data)
    model = "files of the model; default: the embedded one"
    add("--model", nargs="+", default=[MODEL], metavar="FILE", help=model)
    size = "side of the pictures; default: the model's, 512, or 64 of the embedded one"
    add("--size", type=int, metavar="PIXELS", help=size)
    add("--recursive", action="store_true", help="take the subfolders of DATA too")
    background = "colour under transparent pictures; default: white"
    add("--background", default="white", metavar="COLOR", help=background)
    accept_changes = "go on with a run whose data, model or settings have changed; its checkpoints say so"
    add("--accept-changes", action="store_true", help=accept_changes)
    cfg = "guidance on the sheets and of drawn prior pictures; default: 7.5, of small models 2"
    add("--cfg", type=float, help=cfg)

    what = parser.add_argument_group("what is trained").add_argument
    flows = (
        f"one entry per stage: {', '.join(RECIPES)} (the paper's recipe), or flows joined by +, of "
        f"{', '.join(FLOWS)}"
    )
    what("--flows", nargs="+", default=["text_to_image"], metavar="FLOWS", help=flows)
    steps = "steps of each stage; default: 1000"
    what("--steps", nargs="+", type=int, default=[1000], metavar="N", help=steps)
    from_scratch = (
        "initialise the diffuser's weights at random and train them from nothing; the model's sizes, CLIP "
        "and autoencoders stay. Flows that are left out of --flows are lost"
    )
    what("--from-scratch", action="store_true", help=from_scratch)
    target = "what it learns to predict from scratch; default: what the model predicts"
    what("--target", choices=("eps", "v"), help=target)
    lora = "train a LoRA of this rank, not the weights themselves; 8 is a good start"
    what("--lora", type=int, metavar="RANK", help=lora)
    what("--alpha", type=float, help="a LoRA is scaled by alpha / rank; default: the rank")
    layers = (
        "of the LoRA: context, context.text, context.image, data.image, data.text, time_embed; with :attn, "
        ":attn2 or :ff only those; default: context:attn"
    )
    what("--layers", nargs="+", default=["context:attn"], metavar="LAYERS", help=layers)

    prior = parser.add_argument_group("DreamBooth: keep what the model knows of the class").add_argument
    prior("--prior", type=Path, metavar="DATA", help="pictures of the class, with captions")
    prior_prompts = "or prompts, for which the model draws them"
    prior("--prior-prompts", nargs="+", default=[], metavar="TEXT", help=prior_prompts)
    prior("--prior-pictures", type=int, default=100, metavar="N", help="how many it draws; default: 100")
    prior("--prior-weight", type=float, default=1.0, metavar="LAMBDA", help="L + LAMBDA L_prior; default: 1")

    how = parser.add_argument_group("how it is trained").add_argument
    how("--batch", type=int, default=4, help="samples per step and flow, over all processes; default: 4")
    lr = "learning rate; default: 1e-5, with --lora or --from-scratch 1e-4; small models: 10 times that"
    how("--lr", type=float, help=lr)
    warmup = "steps in which the learning rate rises; default: 100"
    how("--warmup", type=int, default=100, metavar="STEPS", help=warmup)
    how("--dropout", type=float, default=0.1, help="share of dropped contexts, for guidance; default: 0.1")
    ema = "decay of the averaged weights; 0 saves their memory; default: 0.999"
    how("--ema", type=float, default=0.999, help=ema)
    how("--weight-decay", type=float, default=0.01, help="default: 0.01")
    gradient_scales = "of global, data, context; 0 freezes a group"
    how("--gradient-scales", nargs="+", default=[], metavar="GROUP=X", help=gradient_scales)
    how("--lr-scales", nargs="+", default=[], metavar="GROUP=X", help="of the learning rate, in the same way")
    how("--min-snr", type=float, metavar="GAMMA", help="min-SNR weights of the noise levels (5 in the paper)")
    multiscale = "simple diffusion's loss on halved latents down to this side"
    how("--multiscale", type=int, metavar="SIDE", help=multiscale)
    shift = "train larger latents than the model's own on simple diffusion's shifted schedule"
    how("--shift", action="store_true", help=shift)

    memory = parser.add_argument_group("how it fits into memory").add_argument
    frozen = "of the frozen weights under a LoRA; bf16 halves their memory"
    memory("--frozen", choices=PRECISIONS, default="fp32", help=frozen)
    checkpointing = "gradient checkpointing: much less memory, a third more time"
    memory("--checkpointing", action="store_true", help=checkpointing)
    shard = "under torchrun: divide weights, gradients, optimizer and average among the processes"
    memory("--shard", action="store_true", help=shard)
    add_run_options(parser)
