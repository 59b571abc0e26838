"""The pattern of MindEye: predicted image tokens, a blurry start, UniPC in 20 steps, 16 samples, the best by
CLIP.

python -m research.brain_decoding.mindeye [--model FILES] [--rows 2] [--out DIR]
"""

from __future__ import annotations

import argparse

from torch import Tensor

from vd_core import Context, Sampling, VersatileDiffusion, best_first, token_similarity

from .run import add_options, run


def reconstruct(
    vd: VersatileDiffusion, tokens: Tensor, guess: Tensor, seed: int = 0, count: int = 16
) -> Tensor:
    """Draw pictures [count, 3, H, W] for predicted tokens [1, n, d] from a guess [1, 3, H, W]; the best comes
    first.
    """
    image = Context("image", tokens.expand(count, -1, -1))
    latent = vd.image_vae.encode(guess).expand(count, -1, -1, -1)
    sampling = Sampling("unipc", steps=20, cfg=3.5, strength=0.85, spacing="linspace")
    samples = vd.image_vae.decode(vd.sample("image", image, latent, seed, sampling))
    scores = token_similarity(vd.encode_image(samples).tokens, tokens)
    return samples[best_first(scores)]


if __name__ == "__main__":
    options = add_options(argparse.ArgumentParser(description=__doc__)).parse_args()
    run(options, lambda vd, images, texts, guesses: reconstruct(vd, images, guesses)[:1])
