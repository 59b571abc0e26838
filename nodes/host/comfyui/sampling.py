"""vd_core's samplers on core's models: guidance, areas, masks, patches, previews and interruption are
core's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import sqrt

import comfy.samplers
import comfy.utils
import latent_preview
import torch
from comfy import model_management
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....vd_core.config import VDConfig
from ....vd_core.sampling.generate import begin, check_official, find_noise
from ....vd_core.sampling.noise import NoiseSource, batch_noise
from ....vd_core.sampling.options import Sampling
from ....vd_core.sampling.samplers import SAMPLERS, Callback, Denoise, ddim_inverse, run_sampler
from ....vd_core.sampling.schedule import Schedule, Steps
from ...conditioning import Conditioning
from ...latents import fit_latent, fit_mask, fit_start, make_latent, make_sampler_noise, read_samples
from .models import find_flow
from .shift import schedule_of


@dataclass(eq=False)
class OwnSampler(comfy.samplers.Sampler):
    """A sampler of vd_core's as a SAMPLER. noise: all that it draws. start: where it begins, in the
    diffuser's scale."""

    schedule: Schedule
    sampling: Sampling
    noise: NoiseSource
    start: Tensor | None

    def sample(
        self,
        model_wrap,
        sigmas,
        extra_args,
        callback,
        noise,
        latent_image=None,
        denoise_mask=None,
        disable_pbar=False,
    ):
        denoise = adapt_model(
            model_wrap, sigmas, extra_args, noise, latent_image, denoise_mask, self.schedule
        )
        start = None if self.start is None else self.start.to(latent_image)
        x, _, steps = begin(self.schedule, latent_image, self.noise, self.sampling, start)
        draw = partial(self.noise.draw, x.shape)
        # `run_sampler` in place, as in `vd_core`'s `generate`: two functions less below this one
        trajectory = SAMPLERS[self.sampling.sampler](denoise, x, steps, draw, self.sampling)
        for i, (x, x0) in enumerate(trajectory):
            if callback is not None:
                callback(i, x0, x, len(steps))
        return keep_unmasked(x, latent_image, denoise_mask)


@dataclass(eq=False)
class Inversion(comfy.samplers.Sampler):
    """DDIM inversion as a SAMPLER."""

    schedule: Schedule
    sampling: Sampling

    def sample(
        self,
        model_wrap,
        sigmas,
        extra_args,
        callback,
        noise,
        latent_image=None,
        denoise_mask=None,
        disable_pbar=False,
    ):
        check_official(self.sampling)
        denoise = adapt_model(
            model_wrap, sigmas, extra_args, noise, latent_image, denoise_mask, self.schedule
        )
        steps = self.schedule.steps(self.sampling.steps)
        x = ddim_inverse(denoise, latent_image, steps, adapt_callback(callback))
        return x / sqrt(steps.alphas_cumprod[0])


@dataclass(eq=False)
class OfficialDDIM(comfy.samplers.Sampler):
    """The official DDIM as a SAMPLER for the sigmas that core gives it; core's own ends at sigma 0 and adds
    less noise at the start."""

    schedule: Schedule
    sampling: Sampling
    timestep: Callable[[Tensor], Tensor]  # of a sigma

    def sample(
        self,
        model_wrap,
        sigmas,
        extra_args,
        callback,
        noise,
        latent_image=None,
        denoise_mask=None,
        disable_pbar=False,
    ):
        denoise = adapt_model(
            model_wrap, sigmas, extra_args, noise, latent_image, denoise_mask, self.schedule
        )
        timesteps = self.timestep(sigmas).cpu().unique().flip(0)
        alphas_cumprod = self.schedule.alphas_cumprod[timesteps].double()
        later = batch_noise(extra_args["seed"])
        later.draw(noise.shape)  # the first draw is `noise`, where it comes from the same seed
        diffused = latent_image.count_nonzero() > 0
        x = self.schedule.q_sample(latent_image, int(timesteps[0]), noise) if diffused else noise
        steps, draw = Steps(timesteps[:-1], alphas_cumprod), partial(later.draw, x.shape)
        x = run_sampler(denoise, x, steps, draw, self.sampling, adapt_callback(callback))
        # The official result belongs to timestep 0. In between core expects data plus noise.
        x = x if timesteps[-1] == 0 else x / alphas_cumprod[-1].sqrt().item()
        return keep_unmasked(x, latent_image, denoise_mask)


def adapt_model(
    model_wrap,
    sigmas: Tensor,
    extra_args: dict,
    noise: Tensor,
    latent_image: Tensor,
    denoise_mask: Tensor | None,
    schedule: Schedule,
) -> Denoise:
    """Make denoise(x, t) -> eps of what core hands to a SAMPLER. Core's models denoise x with noise of any
    sigma added; vd_core's samplers work in the variance-preserving space."""
    model = comfy.samplers.KSamplerX0Inpaint(model_wrap, sigmas)
    model.latent_image, model.noise = latent_image, noise

    def denoise(x: Tensor, t: float) -> Tensor:
        sigma = schedule.sigmas(torch.tensor(t)).to(x.device)
        noisy = x * (sigma**2 + 1).sqrt()
        return (noisy - model(noisy, sigma.expand(len(x)), denoise_mask, **extra_args)) / sigma

    return denoise


def keep_unmasked(x: Tensor, latent: Tensor, mask: Tensor | None) -> Tensor:
    """Return a sample, but the latent where a mask is 0."""
    return x if mask is None else torch.where(mask > 0, x, latent)


def adapt_callback(callback: Callable | None) -> Callback | None:
    """Make a callback of vd_core's samplers of core's."""
    return None if callback is None else lambda i, total, x, x0: callback(i, x0, x, total)


def prepare(
    model: ModelPatcher, positive: Conditioning, negative: Conditioning, sampling: Sampling
) -> Callable[..., Tensor]:
    """Bind what core's sampling of a MODEL needs besides noise, latents and a SAMPLER."""
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(sampling.cfg)
    return partial(
        guider.sample,
        # the SAMPLER chooses from all of them
        sigmas=model.get_model_object("model_sampling").sigmas.flip(0),
        callback=latent_preview.prepare_callback(model, sampling.steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
    )


def config(model: ModelPatcher) -> VDConfig:
    """Return the sizes and the schedule of the model behind a MODEL. Raises ValueError for another model."""
    return find_flow(model).vd_config


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
    flow, schedule = find_flow(model), schedule_of(model)
    samples = fit_latent(read_samples(latent), flow.sizes, flow.data)
    start, mask = fit_start(start_noise, samples, sampling.steps), latent.get("noise_mask")
    mask = None if mask is None else fit_mask(mask, samples)
    # The same numbers twice: core wants the first of them too, for masks.
    first, draws = (make_sampler_noise(sampling, seed, latent) for _ in range(2))
    noise = first.draw(samples.shape)
    if start is not None:
        start = flow.process_latent_in(start)
        noise = find_noise(schedule, start, flow.process_latent_in(samples), sampling.steps)
    run = prepare(model, positive, negative, sampling)
    sampler = OwnSampler(schedule, sampling, draws, start)
    result = run(noise, samples, sampler, denoise_mask=mask, seed=seed).to(
        model_management.intermediate_device()
    )
    # The way into the diffuser's space and back rounds.
    return make_latent(latent, keep_unmasked(result, samples, mask), draws)


def invert(
    model: ModelPatcher, positive: Conditioning, negative: Conditioning, latent: dict, sampling: Sampling
) -> Tensor:
    """Find the start_noise of `sample` that leads back to `latent["samples"]`, in its shape."""
    flow = find_flow(model)
    samples = fit_latent(read_samples(latent), flow.sizes, flow.data)
    run = prepare(model, positive, negative, sampling)
    noise, sampler = torch.zeros_like(samples), Inversion(schedule_of(model), sampling)
    return run(noise, samples, sampler, seed=0).to(model_management.intermediate_device())


def official_ddim(model: ModelPatcher, steps: int, eta: float) -> tuple[OfficialDDIM, Tensor]:
    """Make the official DDIM as a SAMPLER, and its SIGMAS."""
    schedule = schedule_of(model)
    timesteps = schedule.steps(steps).timesteps
    timestep = model.get_model_object("model_sampling").timestep
    sigmas = schedule.sigmas(torch.cat([timesteps, timesteps.new_zeros(1)]))
    return OfficialDDIM(schedule, Sampling(steps=steps, eta=eta), timestep), sigmas
