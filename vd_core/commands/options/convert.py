"""`versatile-diffusion convert`: any known layout to one safetensors file."""

from __future__ import annotations

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add = parser.add_argument
    add("files", nargs="+", metavar="IN", help="weights files or diffusers folders that make up one model")
    add("out", metavar="OUT.safetensors", help="a new file, or one of IN to replace it")
    add("--dtype", choices=("float16", "bfloat16", "float32"), help="of the weights; default: as they are")
    vocabularies = "folder with the vocabularies of the text autoencoder, to be put into the file"
    add("--vocabularies", metavar="DIR", help=vocabularies)
    layout = (
        "names of the weights in OUT; a diffuser of Stable Diffusion 1 becomes one of Prompt-Free Diffusion "
        "by official, and again itself by stable_diffusion"
    )
    add("--layout", choices=("vd_core", "official", "stable_diffusion"), default="vd_core", help=layout)
    loras = "LoRAs to be added to the weights; strength: 1 by default"
    add("--lora", nargs="+", default=[], metavar="FILE[=STRENGTH]", help=loras)
    add("--overwrite", action="store_true", help="replace OUT where it is another file than those of IN")
