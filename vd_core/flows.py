"""Versatile Diffusion as a whole: encode contexts, sample any output kind, decode.

A flow is a choice of arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, overload

import torch
from torch import Tensor, nn

from .autoencoders.image_kl import AutoencoderKL
from .autoencoders.optimus import Optimus
from .config import VDConfig, latent_shape, token_shape
from .context import Blend, Context, check_tokens, list_contexts
from .diffuser.model import Diffuser
from .encoders.clip import Clip
from .encoders.focus import focus as adjust_focus
from .encoders.focus import keep_leading_components
from .placement import check_dtype, check_place, resolve_device, warn_if_slow
from .sampling.checks import check_mask, check_start, check_type, check_values
from .sampling.generate import generate, invert
from .sampling.guidance import guide
from .sampling.noise import Noise, make_noise
from .sampling.options import OFFICIAL, Sampling
from .sampling.samplers import Callback, Denoise
from .sampling.schedule import Schedule
from .tokenizers import list_texts

# The unconditional image: all tokens zero (the official choice for image output), or the context of a black
# picture (the official choice for text output) or of a grey one (the choice of the first official release,
# and meant by diffusers; with transformers of today its picture is divided by 255 a second time and nearly
# black, so "black" is what it computes).
NULL_IMAGES = {"zeros": None, "black": 0.0, "grey": 0.5}
STYLE_RANK = 10  # of the patch tokens in the official I2T2I app
IMAGE_TOKENS = ("all", "patches", "style")
UNGUIDED = Sampling(cfg=1.0)  # the way on which inversion is the most exact


def make_text_context(tokens: Tensor, token_weights: Tensor | None = None) -> Context:
    """Make a text context of tokens [B + 1, n, d] and weights [B + 1, n], last those of what to avoid."""
    sides = (None, None) if token_weights is None else (token_weights[:-1], token_weights[-1:])
    return Context("text", tokens[:-1], tokens[-1:], token_weights=sides[0], null_token_weights=sides[1])


def make_image_context(
    encode: Callable[[Tensor, Tensor | None], Tensor],
    images: Tensor,
    masks: Tensor | None = None,
    focus: float = 0.5,
    null: str = "zeros",
) -> Context:
    """Make an image context of pictures [B, 3, H, W] in 0..1.

    encode: pictures and masks -> tokens [B, 1 + patches, d].
    masks:  [B, 1, h, w], 1 = keep.
    focus:  0 semantics, 0.5 unchanged, 1 style; acts on the patch tokens, the global one is kept.
    null:   "zeros", "black" or "grey". Raises ValueError for another one.
    """
    if null not in NULL_IMAGES:
        raise ValueError(f"The unconditional image is one of {', '.join(NULL_IMAGES)}, got {null!r}.")
    tokens = encode(images, masks)
    tokens = torch.cat([tokens[:, :1], adjust_focus(tokens[:, 1:], focus)], dim=1)
    level = NULL_IMAGES[null]
    return Context(
        "image", tokens, None if level is None else encode(torch.full_like(images[:1], level), None)
    )


def select_image_tokens(context: Context, which: str) -> Context:
    """Select a part of an image context, and of its unconditional tokens: "all" tokens, the "patches" without
    the global token, or the "style" alone, the leading components of the patches (the official I2T2I app).
    Raises ValueError for another choice."""
    if which not in IMAGE_TOKENS:
        raise ValueError(f"The tokens of a picture are {', '.join(IMAGE_TOKENS)}, got {which!r}.")
    if which == "all":
        return context

    def take(tokens: Tensor) -> Tensor:
        return keep_leading_components(tokens[:, 1:], STYLE_RANK) if which == "style" else tokens[:, 1:]

    return replace(
        context, tokens=take(context.tokens), null=None if context.null is None else take(context.null)
    )


class VersatileDiffusion:
    """One model: its config and the parts of it that were loaded. To read another part raises ValueError.

    Image latents are unscaled everywhere outside `sample`, as ComfyUI's are; text latents are [B, channels].
    The diffuser may have weights of another type than latents and contexts.
    """

    def __init__(
        self,
        config: VDConfig,
        diffuser: Diffuser | None = None,
        clip: Clip | None = None,
        image_vae: AutoencoderKL | None = None,
        text_vae: Optimus | None = None,
    ):
        self.config = config
        given = {"diffuser": diffuser, "clip": clip, "image_vae": image_vae, "text_vae": text_vae}
        self.parts: dict[str, Any] = {name: part for name, part in given.items() if part is not None}

    @property
    def diffuser(self) -> Diffuser:
        """The network that denoises."""
        return self._part("diffuser", "diffuser")

    @property
    def clip(self) -> Clip:
        """The encoder of contexts."""
        return self._part("clip", "CLIP")

    @property
    def image_vae(self) -> AutoencoderKL:
        """The autoencoder of pictures."""
        return self._part("image_vae", "image autoencoder")

    @property
    def text_vae(self) -> Optimus:
        """The autoencoder of texts."""
        return self._part("text_vae", "text autoencoder")

    def _part(self, name: str, title: str) -> Any:
        if name not in self.parts:
            raise ValueError(f"This model was loaded without its {title}: load the part {name} too.")
        return self.parts[name]

    def replace(self, config: VDConfig | None = None, **parts: nn.Module | None) -> VersatileDiffusion:
        """Make a model with other parts, or without those that are given as None; the rest is shared."""
        return VersatileDiffusion(config or self.config, **{**self.parts, **parts})

    @property
    def device(self) -> torch.device:
        """The device of the first part that was loaded. Raises ValueError for a model without parts."""
        return next(iter(self.weights().values())).device

    def weights(self) -> dict[str, Tensor]:
        """Return one weight of each loaded part, by the part's name. Raises ValueError without parts."""
        if not self.parts:
            raise ValueError("This model has no parts: load some.")
        return {name: next(part.parameters()) for name, part in self.parts.items()}

    @overload
    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> VersatileDiffusion: ...

    @overload
    def to(self, dtype: torch.dtype, /) -> VersatileDiffusion: ...

    def to(self, device: Any = None, dtype: torch.dtype | None = None) -> VersatileDiffusion:
        """Move all parts to a device, convert their floating point weights, or both; returns this model.

        As of a torch module: to("cuda"), to(torch.float16), to("cuda", torch.float16). Raises ValueError for
        a device or a type that cannot be used here.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        if dtype is not None:
            check_dtype(dtype)
        where = None if device is None else resolve_device(device)
        for part in self.parts.values():
            part.to(device=where, dtype=dtype)
            warn_if_slow(next(part.parameters()))
        return self

    def __repr__(self) -> str:
        """Describe the model in a line per part: parameters, precision, device; and the shapes it reads and
        makes.
        """
        lines = [f"VersatileDiffusion({', '.join(self.flows()) or 'no flow'})"]
        for name, weight in self.weights().items():
            count = sum(parameter.numel() for parameter in self.parts[name].parameters())
            precision = str(weight.dtype).removeprefix("torch.")
            lines.append(f"  {name}: {count:,} parameters, {precision}, on {weight.device}")
        shapes = []
        if "diffuser" in self.parts:
            tokens = [kind for kind in ("image", "text") if kind in self.diffuser.context]
            shapes += [f"{kind} tokens {list(token_shape(self.config, kind))}" for kind in tokens]
            latents = self.diffuser.data
            shapes += [f"{kind} latents {list(latent_shape(self.config, kind))}" for kind in latents]
        return "\n".join([*lines, f"  of one sample: {', '.join(shapes)}"] if shapes else lines)

    def flows(self) -> list[str]:
        """List what the diffuser's layers can do, as "CONTEXT to OUTPUT"."""
        if "diffuser" not in self.parts:
            return []
        return [f"{kind} to {data}" for data in self.diffuser.data for kind in self.diffuser.context]

    def encode_text(self, texts: str | Sequence[str], negative: str = "") -> Context:
        """Encode prompts, one or several, taken literally, as a text context [B, positions, d].

        Its unconditional tokens are those of `negative`. Raises ValueError for what are no prompts.
        """
        prompts = list_texts(texts)
        if not prompts:
            raise ValueError(f"There is no prompt to encode: give one, or a list of them, not {texts!r}.")
        return make_text_context(self.clip.encode_text([*prompts, negative]))

    def encode_image(
        self, images: Tensor, masks: Tensor | None = None, focus: float = 0.5, null: str = "zeros"
    ) -> Context:
        """Encode pictures [B, 3, H, W] in 0..1 as an image context [B, 1 + patches, d]; see
        `make_image_context`."""
        return make_image_context(self.clip.encode_image, images, masks, focus, null)

    def sample(
        self,
        data: str,
        contexts: Context | Blend,
        latent: Tensor,
        noise: Noise,
        sampling: Sampling = OFFICIAL,
        *,
        mask: Tensor | None = None,
        start: Tensor | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Generate latents of kind `data` under the contexts, unscaled, in the shape and precision of
        `latent`.

        contexts: one or several; on any device.
        latent:   unscaled, [B, C, H, W] or [B, C], on the diffuser's device; without `fidelity` or `strength`
                  only its shape counts, so zeros will do.
        noise:    a seed, which becomes noise as `sampling` says, a torch.Generator or a list of them, or x_T
                  itself, standard normal, in the shape of `latent`.
        start:    unscaled, as `invert` gives it.

        The other arguments are those of `generate`.

        Gradients reach contexts, latents, x_T and weights that require them, unless energies steer. Otherwise
        nothing is kept for them. Raises ValueError for unknown kinds, shapes that do not fit, values that are
        not finite, tokens that were never normalised, and more steps than the schedule has.
        """
        contexts = list_contexts(contexts)
        scale = self._latent_scale(data)
        self._check_inputs(contexts, latent, mask, start, sampling)
        schedule = Schedule(self.config.schedule, sampling.shift)
        x = generate(
            self._guided(data, contexts, schedule, sampling),
            schedule,
            latent * scale,
            make_noise(noise, sampling.noise),
            sampling,
            mask=mask,
            start=None if start is None else start * scale,
            latent_scale=scale,
            callback=callback,
        )
        # The way into the diffuser's space and back rounds.
        return x / scale if mask is None else torch.where(mask > 0, x / scale, latent)

    def invert(
        self,
        data: str,
        contexts: Context | Blend,
        latent: Tensor,
        sampling: Sampling = UNGUIDED,
        callback: Callback | None = None,
    ) -> Tensor:
        """Find the `start` from which `sample` under the same contexts and options leads back to `latent`.

        It is that of "ddim" at eta 0, whatever the sampler of `sampling`. Latent and result are unscaled, of
        one shape. Raises ValueError for unknown kinds, shapes that do not fit, and values that are not
        finite.
        """
        contexts = list_contexts(contexts)
        scale = self._latent_scale(data)
        self._check_inputs(contexts, latent, None, None, sampling)
        schedule = Schedule(self.config.schedule, sampling.shift)
        denoise = self._guided(data, contexts, schedule, sampling)
        return (
            invert(denoise, schedule, latent * scale, sampling, latent_scale=scale, callback=callback) / scale
        )

    def _check_inputs(
        self, contexts: Blend, latent: Tensor, mask: Tensor | None, start: Tensor | None, sampling: Sampling
    ) -> None:
        """Raise ValueError, with one sentence, for what would silently give wrong samples."""
        check_type("sampling", sampling, Sampling)
        check_values("latent", latent)
        if latent.ndim == 0 or 0 in latent.shape:
            raise ValueError(f"latent must hold at least one sample, [B, …], got {list(latent.shape)}.")
        if start is not None:
            check_start(start, latent)
        if mask is not None:
            check_mask(mask, latent)
        for context in contexts:
            check_tokens(context)
        check_place(next(self.diffuser.parameters()), latent, "latents", "diffuser")
        tracked = [latent, *(context.tokens for context in contexts), *self.diffuser.parameters()]
        if sampling.energies and torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tracked):
            raise ValueError(
                "Gradients do not pass through samples that energies steer: leave the energies out, or "
                "sample under torch.no_grad()."
            )

    def _guided(self, data: str, contexts: Blend, schedule: Schedule, sampling: Sampling) -> Denoise:
        """Make denoise(x, t) -> eps of the diffuser, which computes in the type of its weights."""
        dtype = next(self.diffuser.parameters()).dtype
        return guide(self.diffuser, schedule, contexts, data, sampling.cfg, sampling.guidance, dtype)

    def _latent_scale(self, data: str) -> float:
        """Return the latent_scale of a kind of data. Raises ValueError for a kind that the model lacks."""
        if data not in self.config.diffuser.data:
            raise ValueError(f"The model generates {', '.join(self.config.diffuser.data)}, not {data!r}.")
        return self.config.diffuser.data[data].latent_scale
