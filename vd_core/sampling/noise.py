"""Where random numbers come from: always the CPU, so that a seed means the same on every device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, islice
from numbers import Integral

import torch
from torch import Generator, Tensor

from .checks import check_values

# Odd, and both halves are 2**32 divided by the golden ratio, whose multiples stay far apart: torch's CPU
# generator reads only the low 32 bits of a seed.
SPREAD = 0x9E3779B99E3779B9

LOUDEST = 4.0  # standard deviation of a given x_T


def make_generator(seed: int) -> Generator:
    """Make a CPU generator from any integer, modulo 2**64."""
    return Generator("cpu").manual_seed(seed % 2**64)


def draw_normal(shape: Sequence[int], generator: Generator) -> Tensor:
    """Draw standard normal noise, float32, where the generator is."""
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32, device=generator.device)


class BatchNoise:
    """Noise from one `generator` for the whole batch; `drawn` holds the shapes of all that was drawn so far.

    rows: hand out these rows only, of the draw for the smallest batch that has them; None for all rows that
          are asked for.
    """

    def __init__(self, generator: Generator, rows: Sequence[int] | None = None):
        self.generator, self.rows = generator, rows
        self.drawn: list[tuple[int, ...]] = []

    def draw(self, shape: Sequence[int]) -> Tensor:
        """Draw the next standard normal numbers, float32 on the CPU."""
        size = shape[0] if self.rows is None else max(self.rows) + 1
        self.drawn.append((size, *shape[1:]))
        draw = draw_normal(self.drawn[-1], self.generator)
        return draw if self.rows is None else draw[list(self.rows)]


class SampleNoise:
    """Noise from one generator per sample; `generators` holds those of the largest batch drawn so far."""

    def __init__(self, streams: Iterator[Generator]):
        self.generators: list[Generator] = []
        self._streams = streams

    def draw(self, shape: Sequence[int]) -> Tensor:
        """Draw the next standard normal numbers of the first shape[0] samples, float32 on the CPU."""
        batch = shape[0]
        self.generators += islice(self._streams, max(0, batch - len(self.generators)))
        if len(self.generators) < batch:
            raise ValueError(
                f"There are {len(self.generators)} generators for {batch} samples: give one for each, or one."
            )
        return torch.cat([draw_normal((1, *shape[1:]), generator) for generator in self.generators[:batch]])


class GivenNoise:
    """Noise that was given: x_T, standard normal, from which other code starts too."""

    def __init__(self, noise: Tensor):
        check_values("noise", noise)
        if noise.numel() > 1 and (deviation := float(noise.detach().float().std())) > LOUDEST:
            raise ValueError(
                f"noise has a standard deviation of {deviation:.3g}, where x_T has about 1: leave out what "
                "scales it, such as init_noise_sigma of diffusers."
            )
        self.noise = noise
        self.taken = False

    def draw(self, shape: Sequence[int]) -> Tensor:
        """Return the noise, then zeros, which samplers never use. Raises ValueError for another shape."""
        if tuple(shape) != tuple(self.noise.shape):
            raise ValueError(
                f"The noise must have the shape of the latent, {list(shape)}, got {list(self.noise.shape)}."
            )
        first, self.taken = not self.taken, True
        return self.noise if first else torch.zeros_like(self.noise)


NoiseSource = BatchNoise | SampleNoise | GivenNoise
Noise = int | Generator | Sequence[Generator] | Tensor | NoiseSource


def batch_noise(seed: int, rows: Sequence[int] | None = None) -> BatchNoise:
    """Draw as the official code does: draws equal those after torch.manual_seed(seed). A sample depends on
    the size of its batch. rows: see `BatchNoise`."""
    return BatchNoise(make_generator(seed), rows)


def sample_noise(seed: int, rows: Sequence[int] | None = None) -> SampleNoise:
    """Give each sample its own stream, so that none depends on the size of the batch.

    Sample 0 has the stream of the plain seed; those of the others are far from it and from those of
    neighbouring seeds.
    rows: the indices of the samples in their batch; None for 0, 1, 2 …
    """
    return SampleNoise(make_generator(seed + index * SPREAD) for index in (count() if rows is None else rows))


def shared_noise(seed: int, rows: Sequence[int] | None = None) -> SampleNoise:
    """Give every sample the same stream, that of sample 0 of `sample_noise`. rows: not used."""
    return SampleNoise(make_generator(seed) for _ in count())


# How one seed becomes the noise of a batch.
NOISES = {"per sample": sample_noise, "official": batch_noise, "shared": shared_noise}


def make_noise(noise: Noise, kind: str, rows: Sequence[int] | None = None) -> NoiseSource:
    """Make noise from what users give.

    noise: a seed, which becomes noise by one of `NOISES` (`kind`); a generator for the whole batch, or a list
           with one for each sample, on any device; or x_T itself. Noise of this module is returned unchanged.
    rows:  with a seed, which samples of a batch to make it for; see `BatchNoise` and `sample_noise`.

    Raises ValueError for anything else.
    """
    if isinstance(noise, Integral) and not isinstance(noise, bool):
        return NOISES[kind](int(noise), rows)
    if isinstance(noise, Generator):
        return BatchNoise(noise)
    if isinstance(noise, Tensor):
        return GivenNoise(noise)
    if isinstance(noise, list | tuple) and noise and all(isinstance(each, Generator) for each in noise):
        return SampleNoise(iter(noise))
    if not hasattr(noise, "draw"):
        raise ValueError(
            "noise must be a seed (a whole number), a torch.Generator or a list of them, or a tensor with "
            f"x_T, got {type(noise).__name__}."
        )
    return noise  # type: ignore[return-value]  # that of another copy of this package is as good
