"""Inversion and the hires pass on the embedded model, as figures: python -m tools.figures.latents"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vd_core.checkpoints.load import load
from vd_core.embedded import FOLDER, MODEL
from vd_core.sampling.low_pass import LowPassGuidance
from vd_core.sampling.noise import sample_noise
from vd_core.sampling.options import Sampling
from vd_core.sampling.shift import UNSHIFTED, ResolutionShift
from vd_core.training.dataset import CaptionedPictures

CAPTIONS = [
    f"{name}, {style} style"
    for name in ("red apple", "strawberry", "rocket", "banana", "key", "dog")
    for style in ("3d", "flat")
]


def measure_psnr(pictures: Tensor, others: Tensor) -> float:
    """Measure the PSNR of pictures in 0..1, the mean over the batch, in dB."""
    error = (pictures.clamp(0, 1) - others.clamp(0, 1)).square().flatten(1).mean(dim=1)
    return (-10 * error.log10()).mean().item()


@torch.inference_mode()
def invert_and_sample(counts, captions=("strawberry, noto style", "rocket, 3d style")) -> dict[int, float]:
    """PSNR of pictures that were inverted and sampled again under their own contexts, by the number of
    steps."""
    model, data = load(MODEL), CaptionedPictures.load(FOLDER)
    pictures = torch.stack([data.pixels[data.captions.index(caption)] for caption in captions])
    latents, contexts = model.image_vae.encode(pictures), [model.encode_image(pictures)]
    found = {}
    for count in counts:
        start = model.invert("image", contexts, latents, Sampling(steps=count, cfg=1.0))
        samples = model.sample(
            "image", contexts, latents, sample_noise(0), Sampling(steps=count, cfg=1.0), start=start
        )
        found[count] = measure_psnr(model.image_vae.decode(samples), model.image_vae.decode(latents))
    return found


@torch.inference_mode()
def refine(captions, fidelity, ways) -> dict[str, tuple[float, float]]:
    """(PSNR of the shrunk picture to the small one, cosine with its prompt) of a second pass at twice the
    size."""
    model = load(MODEL)
    contexts, words = [model.encode_text(captions)], model.clip.embed_text(captions)
    sampling = Sampling("dpmpp_2m", steps=20, cfg=2.0)
    small = model.image_vae.decode(
        model.sample("image", contexts, torch.zeros(len(captions), 16, 8, 8), sample_noise(1), sampling)
    )
    enlarged = model.image_vae.encode(F.interpolate(small, scale_factor=2, mode="bicubic").clamp(0, 1))
    found = {}
    for way in ways:
        tie = LowPassGuidance(enlarged, 2) if "tie" in way else None
        shift = ResolutionShift(2, 2) if "shift" in way else UNSHIFTED
        latents = model.sample(
            "image",
            contexts,
            enlarged,
            sample_noise(2),
            replace(sampling, fidelity=fidelity, low_pass=tie, shift=shift),
        )
        shrunk = F.interpolate(model.image_vae.decode(latents), scale_factor=0.5, mode="area")
        cosine = (F.normalize(model.clip.encode_image(shrunk)[:, 0], dim=-1) * words).sum(dim=1)
        found[way] = measure_psnr(shrunk, small), cosine.mean().item()
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(
        "PSNR of invert and sample, by steps:",
        {count: round(value, 1) for count, value in invert_and_sample((10, 25, 50, 100, 250)).items()},
    )
    for fidelity in (0.8, 0.7):
        found = refine(CAPTIONS, fidelity, ("plain", "tie", "shift", "shift and tie"))
        print(
            f"hires pass at fidelity {fidelity}:",
            {way: f"{p:.1f} dB, cosine {c:.2f}" for way, (p, c) in found.items()},
        )
