"""Inside ComfyUI: inversion, noise masks, shifts and ties here and without ComfyUI. A part of
parity_in_comfyui.py."""

import torch
from pack_in_comfyui import part, sample_alone


def compare(parity, ours, theirs, pair: tuple, latent: dict, data: str) -> None:
    """Inversion and noise masks here and without ComfyUI; what core's KSampler and the multi-flow sampler
    keep of a masked latent."""
    standalone, samples = part("nodes.host.standalone"), latent["samples"]
    start = parity.nodes["VD_Invert"]().execute(ours, *pair, latent, 6, 1.0)[0]
    sampling = part("vd_core.sampling.options").Sampling(steps=6, cfg=1.0)
    parity.compare(
        f"latents {data} inverted: standalone",
        start["samples"],
        standalone.invert(theirs, *pair, latent, sampling),
    )
    soft = torch.linspace(0, 1, 64).reshape(1, 1, 8, 8) if data == "image" else torch.full((1, 1, 1, 1), 0.3)
    hard = (soft > 0.5).float() if data == "image" else torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)
    for name, mask, begin in (
        ("soft mask", soft, None),
        ("mask", hard, None),
        ("masked start", hard, start),
        ("start", None, start),
    ):
        masked = latent if mask is None else {**latent, "noise_mask": mask}
        arguments = (*pair, masked, 5, 6, 2.0, "dpmpp_2m", 0.0, 0.0, "per sample", begin)
        here = parity.nodes["VD_Sampler"]().execute(ours, *arguments)[0]["samples"]
        parity.compare(
            f"latents {data} {name}: standalone", here, sample_alone(theirs, *arguments)["samples"]
        )
        if mask is hard:
            parity.differences[f"kept {data} {name}: changed values"] = float(
                ((here != samples) & (mask == 0)).sum()
            )
    if data == "image":
        shifted(parity, ours, theirs, pair, latent)
    rows_of_a_batch(parity, ours, theirs, pair, samples, data)
    import nodes as stock

    masked = {**latent, "noise_mask": hard}
    for sampler in ("euler", "dpmpp_2m", "ddim"):
        out = stock.KSampler().sample(ours, 5, 6, 2.0, sampler, "karras", *pair, masked)[0]["samples"]
        kept = (hard == 0).expand_as(samples)
        parity.compare(f"kept {data} KSampler {sampler}: source", out[kept], samples[kept])


def rows_of_a_batch(parity, ours, theirs, pair: tuple, samples: torch.Tensor, data: str) -> None:
    """Picture 3 of 4, taken by core's Latent From Batch, and a fixed seed by its Latent Batch Seed Behavior;
    in both hosts."""

    import nodes as stock

    def sampled(latent: dict) -> tuple[torch.Tensor, torch.Tensor]:
        arguments = (*pair, latent, 5, 6, 2.0, "ddim", 0.5, 0.0, "per sample")
        there = sample_alone(theirs, *arguments)["samples"]
        return parity.nodes["VD_Sampler"]().execute(ours, *arguments)[0]["samples"], there

    whole = {"samples": torch.zeros(4, *samples.shape[1:])}
    alone = stock.LatentFromBatch().frombatch(whole, 2, 1)[0]
    fixed = {**whole, "batch_index": [0] * 4}  # as Latent Batch Seed Behavior leaves it
    backwards = {**whole, "batch_index": [3, 2, 1, 0]}
    for host, all_four, one, alike, turned in zip(
        ("here", "there"), sampled(whole), sampled(alone), sampled(fixed), sampled(backwards), strict=True
    ):
        parity.compare(f"rows {data} {host}, alone: whole batch", one, all_four[2:3])
        parity.compare(f"rows {data} {host}, backwards: bits", turned, all_four.flip(0))
        parity.compare(f"rows {data} {host}, fixed seed: bits", alike, alike[:1].expand_as(alike))


def shifted(parity, ours, theirs, pair: tuple, latent: dict) -> None:
    """The resolution shift, which changes nothing at the trained size, and low-pass guidance, in both
    hosts."""
    standalone, shift = part("nodes.host.standalone"), parity.nodes["VD_ResolutionShift"]()
    large = {"samples": torch.randn((1, 16, 16, 12), generator=torch.Generator().manual_seed(8))}
    for name, noisy, clean in (("shifted", 1.0, 1.0), ("interpolated", 1.0, 0.0)):
        (here,), there = (
            shift.execute(ours, large, noisy, clean, 0),
            standalone.shift_resolution(theirs, large, 0, noisy, clean),
        )
        for sampler, fidelity in (("ddim", 0.0), ("dpmpp_2m", 0.5)):
            arguments = (*pair, large, 5, 10, 2.0, sampler, 0.0, fidelity, "per sample")
            sampled = parity.nodes["VD_Sampler"]().execute(here, *arguments)[0]["samples"]
            parity.compare(
                f"{name} {sampler}: standalone", sampled, sample_alone(there, *arguments)["samples"]
            )
    source = {"samples": torch.randn((1, 16, 16, 12), generator=torch.Generator().manual_seed(9))}
    here = parity.nodes["VD_LowPassTie"]().execute(ours, source, 2, 0.7, 0.6)[0]
    there = standalone.guide_low_pass(
        theirs, part("vd_core.sampling.low_pass").LowPassGuidance(source["samples"], 2, 0.7, 0.6)
    )
    arguments = (*pair, large, 5, 10, 2.0, "dpmpp_2m", 0.0, 0.0, "per sample")
    sampled = parity.nodes["VD_Sampler"]().execute(here, *arguments)[0]["samples"]
    parity.compare("tied: standalone", sampled, sample_alone(there, *arguments)["samples"])
    one, other = (
        model.get_model_object("model_sampling").sigmas
        for model in (ours, shift.execute(ours, latent, 1.0, 1.0, 0)[0])
    )
    parity.differences["kept shift at the trained size: changed values"] = float((one != other).sum())
