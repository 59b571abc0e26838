"""The pattern of Brain-Diffuser on the official code: dual guidance with 0.4 of the text, DDIM 50, strength
0.75.

python -m research.brain_decoding.brain_diffuser [--model FILES] [--rows 2] [--out DIR]
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from vd_core import Context, Sampling, VersatileDiffusion

from .run import add_options, run


def reconstruct(
    vd: VersatileDiffusion, images: Tensor, texts: Tensor, guesses: Tensor, seed: int = 0
) -> Tensor:
    """Draw a picture per row of image tokens [B, n, d], text tokens [B, m, d] and guesses [B, 3, H, W]."""
    black = vd.encode_image(torch.zeros_like(guesses[:1])).tokens
    contexts = [
        Context("image", images, black, weight=0.6),
        Context("text", texts, vd.encode_text("").tokens, weight=0.4),
    ]
    # The official code noises one level higher than the first step assumes: that is what a fidelity does.
    sampling = Sampling("ddim", steps=50, cfg=7.5, fidelity=0.25, noise="official")
    return vd.image_vae.decode(vd.sample("image", contexts, vd.image_vae.encode(guesses), seed, sampling))


if __name__ == "__main__":
    options = add_options(argparse.ArgumentParser(description=__doc__)).parse_args()
    run(options, reconstruct)
