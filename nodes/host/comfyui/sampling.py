"""vd_core's sampling loops on core's models: guidance, areas, masks, patches, previews and interruption are core's."""

from __future__ import annotations

from collections.abc import Callable

import comfy.samplers
import comfy.utils
import latent_preview
import torch
from comfy import model_management
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....vd_core.config import VDConfig
from ....vd_core.sampling.generate import generate, noise_of
from ....vd_core.sampling.generate import invert as inverted
from ....vd_core.sampling.noise import batch_noise
from ....vd_core.sampling.options import Sampling
from ....vd_core.sampling.samplers import Callback, Denoise, ddim
from ....vd_core.sampling.schedule import Schedule, Steps
from ...conditioning import Conditioning
from ...latents import fit_latent, fit_mask, fit_start, made, sampler_noise
from .models import flow_of
from .shift import schedule_of

# (denoise, noise, latent, sigmas, seed, callback) -> x; noise, latent and x in the shape of the latent
Loop = Callable[[Denoise, Tensor, Tensor, Tensor, int, Callback], Tensor]


class LoopSampler(comfy.samplers.Sampler):
    """A loop as a SAMPLER. Core's models denoise x with noise of any sigma added; vd_core's loops work in the variance-preserving space."""

    def __init__(self, loop: Loop, schedule: Schedule):
        self.loop, self.schedule = loop, schedule

    def sample(self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False):
        model = comfy.samplers.KSamplerX0Inpaint(model_wrap, sigmas)
        model.latent_image, model.noise = latent_image, noise

        def denoise(x: Tensor, t: int) -> Tensor:
            sigma = self.schedule.sigmas(torch.tensor(t)).to(x.device)
            noisy = x * (sigma**2 + 1).sqrt()
            return (noisy - model(noisy, sigma.expand(len(x)), denoise_mask, **extra_args)) / sigma

        def report(i: int, total: int, x: Tensor, x0: Tensor) -> None:
            if callback is not None:
                callback(i, x0, x, total)

        x = self.loop(denoise, noise, latent_image, sigmas, extra_args["seed"], report)
        return x if denoise_mask is None else torch.where(denoise_mask > 0, x, latent_image)


def run(
    model: ModelPatcher,
    positive: Conditioning,
    negative: Conditioning,
    sampling: Sampling,
    loop: Loop,
    schedule: Schedule,
    noise: Tensor,
    samples: Tensor,
    seed: int = 0,
    mask: Tensor | None = None,
) -> Tensor:
    """What a loop makes of latents under core's guidance; both are unscaled."""
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(sampling.cfg)
    result = guider.sample(
        noise,
        samples,
        LoopSampler(loop, schedule),
        model.get_model_object("model_sampling").sigmas.flip(0),  # the loop chooses from all of them
        denoise_mask=mask,
        callback=latent_preview.prepare_callback(model, sampling.steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    return result.to(model_management.intermediate_device())


def config(model: ModelPatcher) -> VDConfig:
    """The sizes and the schedule of the model behind a MODEL. Raises ValueError for another model."""
    return flow_of(model).vd_config


def sample(
    model: ModelPatcher,
    positive: Conditioning,
    negative: Conditioning,
    latent: dict,
    seed: int,
    sampling: Sampling,
    start_noise: dict | None = None,
) -> dict:
    """Make a LATENT of the shape of the given one: [B, C, h, w] for pictures, [B, width, 1, 1] for texts."""
    flow = flow_of(model)
    schedule = schedule_of(model)
    samples = fit_latent(latent["samples"], flow.sizes, flow.data)
    start, mask = fit_start(start_noise, samples, sampling.steps), latent.get("noise_mask")
    # The same numbers twice: core wants the first of them too, for masks.
    first, draws = (sampler_noise(sampling, seed, latent) for _ in range(2))
    first = first.draw(samples.shape)
    if start is not None:
        start = flow.process_latent_in(start)
        first = noise_of(schedule, start, flow.process_latent_in(samples), sampling.steps)

    def loop(denoise: Denoise, noise: Tensor, latent: Tensor, sigmas: Tensor, seed: int, callback: Callback) -> Tensor:
        first = None if start is None else start.to(latent)
        return generate(denoise, schedule, latent, draws, sampling, start=first, callback=callback)

    mask = None if mask is None else fit_mask(mask, samples)
    result = run(model, positive, negative, sampling, loop, schedule, first, samples, seed, mask)
    # The way into the diffuser's space and back rounds.
    return made(latent, result if mask is None else torch.where(mask > 0, result, samples), draws)


def invert(model: ModelPatcher, positive: Conditioning, negative: Conditioning, latent: dict, sampling: Sampling) -> Tensor:
    """The start_noise of `sample` that leads back to `latent["samples"]`, in its shape."""
    flow = flow_of(model)
    schedule = schedule_of(model)
    samples = fit_latent(latent["samples"], flow.sizes, flow.data)

    def loop(denoise: Denoise, noise: Tensor, latent: Tensor, sigmas: Tensor, seed: int, callback: Callback) -> Tensor:
        return inverted(denoise, schedule, latent, sampling, callback=callback)

    return run(model, positive, negative, sampling, loop, schedule, torch.zeros_like(samples), samples)


def official_ddim(model: ModelPatcher, steps: int, eta: float) -> tuple[LoopSampler, Tensor]:
    """The official DDIM as a SAMPLER and its SIGMAS; core's own ends at sigma 0 and adds less noise at the start."""
    sampling = Sampling(steps=steps, eta=eta)
    model_sampling, schedule = model.get_model_object("model_sampling"), schedule_of(model)

    def loop(denoise: Denoise, noise: Tensor, latent: Tensor, sigmas: Tensor, seed: int, callback: Callback) -> Tensor:
        timesteps = model_sampling.timestep(sigmas).cpu().unique().flip(0)
        alphas_cumprod = schedule.alphas_cumprod[timesteps].double()
        later = batch_noise(seed)
        later.draw(noise.shape)  # the first draw is `noise`, where it comes from the same seed
        x = schedule.q_sample(latent, int(timesteps[0]), noise) if latent.count_nonzero() else noise
        x = ddim(denoise, x, Steps(timesteps[:-1], alphas_cumprod), lambda: later.draw(x.shape), sampling, callback)
        # The official result belongs to timestep 0. In between core expects data plus noise.
        return x if timesteps[-1] == 0 else x / alphas_cumprod[-1].sqrt().item()

    timesteps = schedule.steps(steps).timesteps
    return LoopSampler(loop, schedule), schedule.sigmas(torch.cat([timesteps, timesteps.new_zeros(1)]))
