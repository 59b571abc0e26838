"""Energy guidance: steer any sampler by differentiable measures of the data that a step predicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor
from torch.autograd.graph import allow_mutation_on_saved_tensors
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from .checks import check_number
from .samplers import Denoise, predict_x0
from .schedule import Schedule


@dataclass(frozen=True, eq=False)
class Energy:
    """What samples are steered to make small.

    of:         (x0, alphas_cumprod) -> [B], each at least 0 and a function of its own row of x0 alone. x0:
                unscaled latents [B, …].
    strength:   in the units that `relative` says; 0 changes nothing.
    start, end: when it acts, from noise (0) to data (1).
    relative:   strength is the share of the step x0 - 2 E grad E / |grad E|² that takes an energy of squares
                to 0, to first order. It is independent of the energy's units, and up to 1 it does not
                overshoot. If not, exp(-strength * of) is p(y | x) itself.
    exact:      the gradient passes through the network. If not, the Jacobian of x0 counts as 1 /
                sqrt(alphas_cumprod), as if the noise did not depend on x (He et al. 2024, MPGD): the network
                has no backward pass and keeps nothing in memory.

    Raises ValueError for numbers that are not finite, and a start or an end outside 0..1.
    """

    of: Callable[[Tensor, float], Tensor]
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    relative: bool = True
    exact: bool = True

    def __post_init__(self) -> None:
        check_number("strength of an energy", self.strength)
        check_number("start of an energy", self.start, 0, 1)
        check_number("end of an energy", self.end, 0, 1)

    def acts(self, progress: float) -> bool:
        """Tell whether it steers at a share of the way from noise to data; not at `end`, unless that is 1."""
        return self.strength != 0 and self.start <= progress and (progress < self.end or self.end == 1)


def steer(
    denoise: Denoise, schedule: Schedule, energies: Sequence[Energy], latent_scale: float = 1.0
) -> Denoise:
    """Wrap `denoise` so that energies of x0 / latent_scale steer its predictions.

    Without energies `denoise` itself is returned.
    """

    def denoise_steered(x: Tensor, t: float) -> Tensor:
        acting = [energy for energy in energies if energy.acts(schedule.progress(t))]
        alpha = schedule.alpha(t)
        return (
            steer_eps(lambda x: denoise(x, t), x, alpha, acting, lambda x0: x0 / latent_scale)
            if acting
            else denoise(x, t)
        )

    return denoise_steered if energies else denoise


def steer_eps(
    denoise: Callable[[Tensor], Tensor],
    x: Tensor,
    alpha: float,
    energies: Sequence[Energy],
    unscale: Callable[[Tensor], Tensor],
) -> Tensor:
    """Predict the noise in x [B, …] (variance-preserving, alphas_cumprod `alpha`) under energies:

        eps - sqrt(1 - alpha) Σ strength grad_x log p(y | x)          (Dhariwal & Nichol 2021, algorithm 2)

    with log p(y | x) = -of(x0), x0 = (x - sqrt(1 - alpha) eps(x)) / sqrt(alpha), the gradient through x0 and
    through eps (Chung et al. 2023, DPS). denoise: x -> eps. unscale: x0 -> the latents that energies look at.

    Runs under inference mode too. For `exact` energies the activations of one evaluation of the network are
    kept in memory.
    """
    exact = any(energy.exact for energy in energies)
    with differentiable():
        x = x.clone().requires_grad_(exact)
        with torch.set_grad_enabled(exact):
            eps = denoise(x)
            x0 = predict_x0(x, eps, alpha)
        total = torch.zeros_like(x)
        for energy in energies:
            leaf = x0.detach().requires_grad_()
            values = energy.of(unscale(leaf), alpha)
            (slope,) = torch.autograd.grad(values.sum(), leaf)
            gradient = (
                torch.autograd.grad(x0, x, slope, retain_graph=True)[0]
                if energy.exact
                else slope / sqrt(alpha)
            )
            total += (
                energy.strength
                * (compute_newton_factors(values, slope, gradient, alpha) if energy.relative else 1)
                * gradient
            )
    return eps.detach() + sqrt(1 - alpha) * total.detach()


def compute_newton_factors(values: Tensor, slope: Tensor, gradient: Tensor, alpha: float) -> Tensor:
    """Compute the factors [B, 1, …] with which `gradient`, by x, moves x0 as far as Newton's step along
    `slope`, by x0, would.

    A change of eps by sqrt(1 - alpha) g moves x0 by -(1 - alpha) / sqrt(alpha) g. Where the two directions
    agree that takes an energy of squares to 0 to first order; where the network turns the direction, less.
    """
    length, pulled = (part.flatten(1).float().norm(dim=1) for part in (slope, gradient))
    factors = 2 * values.detach().to(length) / (length * pulled)
    factors = torch.where(length * pulled > 0, factors, 0)  # nothing to follow where the gradient is 0
    return (sqrt(alpha) / (1 - alpha) * factors.reshape(-1, *[1] * (slope.ndim - 1))).to(gradient)


class NormalTensors(TorchFunctionMode):
    """Hand tensors that were made in inference mode to operations as normal ones on the same memory: autograd
    refuses to save the former. All weights that ComfyUI loads are such tensors."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        args, kwargs = tree_map_only(Tensor, as_normal_tensor, (args, kwargs or {}))
        return func(*args, **kwargs)


def as_normal_tensor(tensor: Tensor) -> Tensor:
    """Make a normal tensor on the memory of one from inference mode; others, and those of special classes,
    stay as they are."""
    if type(tensor) not in (Tensor, torch.nn.Parameter) or not tensor.is_inference():
        return tensor
    alias = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return alias.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())


@contextmanager
def differentiable() -> Iterator[None]:
    """Allow gradients inside inference mode, of models that are written for it: through weights that were
    loaded in it, and past operations in place on what was saved for a gradient, as in ComfyUI's CLIP and
    ControlNets."""
    with torch.inference_mode(False), torch.enable_grad(), allow_mutation_on_saved_tensors(), NormalTensors():
        yield
