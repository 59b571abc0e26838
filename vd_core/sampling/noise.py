"""Where random numbers come from: always the CPU, so that a seed means the same on every device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from numbers import Integral

import torch
from torch import Generator, Tensor

# Odd, and both halves are 2**32 divided by the golden ratio, whose multiples stay far apart: torch's CPU generator reads only
# the low 32 bits of a seed.
SPREAD = 0x9E3779B99E3779B9


def seeded(seed: int) -> Generator:
    """A CPU generator; any integer will do, it counts modulo 2**64."""
    return Generator("cpu").manual_seed(seed % 2**64)


def normal(shape: Sequence[int], generator: Generator) -> Tensor:
    """Standard normal noise, float32 on the CPU."""
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32, device="cpu")


class BatchNoise:
    """Noise from one `generator` for the whole batch; `drawn` holds the shapes of all that was drawn so far.

    rows: hand out these rows only, of the draw for the smallest batch that has them; None for all rows that are asked for.
    """

    def __init__(self, generator: Generator, rows: Sequence[int] | None = None):
        self.generator, self.rows = generator, rows
        self.drawn: list[tuple[int, ...]] = []

    def draw(self, shape: Sequence[int]) -> Tensor:
        """Draw the next standard normal numbers, float32 on the CPU."""
        size = shape[0] if self.rows is None else max(self.rows) + 1
        self.drawn.append((size, *shape[1:]))
        draw = normal(self.drawn[-1], self.generator)
        return draw if self.rows is None else draw[list(self.rows)]


class SampleNoise:
    """Noise from one generator per sample; `generators` holds those of the largest batch drawn so far."""

    def __init__(self, streams: Iterator[Generator]):
        self.generators: list[Generator] = []
        self._streams = streams

    def draw(self, shape: Sequence[int]) -> Tensor:
        """Draw the next standard normal numbers of the first shape[0] samples, float32 on the CPU."""
        batch = shape[0]
        while len(self.generators) < batch:
            self.generators.append(next(self._streams))
        return torch.cat([normal((1, *shape[1:]), generator) for generator in self.generators[:batch]])


NoiseSource = BatchNoise | SampleNoise


def batch_noise(seed: int, rows: Sequence[int] | None = None) -> BatchNoise:
    """Draw as the official code does: draws equal those after torch.manual_seed(seed). A sample depends on the size of its
    batch. rows: see `BatchNoise`."""
    return BatchNoise(seeded(seed), rows)


def sample_noise(seed: int, rows: Sequence[int] | None = None) -> SampleNoise:
    """Give each sample a stream of its own, so that none depends on the size of its batch.

    Sample 0 has the stream of the plain seed; those of the others are far from it and from those of neighbouring seeds.
    rows: the indices of the samples in their batch; None for 0, 1, 2 …
    """
    return SampleNoise(seeded(seed + index * SPREAD) for index in (count() if rows is None else rows))


def shared_noise(seed: int, rows: Sequence[int] | None = None) -> SampleNoise:
    """Give every sample the same stream, that of sample 0 of `sample_noise`: what differs between samples then comes from
    elsewhere. rows: not used, all are alike."""
    return SampleNoise(seeded(seed) for _ in count())


# How one seed becomes the noise of a batch.
NOISES = {"per sample": sample_noise, "official": batch_noise, "shared": shared_noise}


def make_noise(noise: int | NoiseSource, kind: str, rows: Sequence[int] | None = None) -> NoiseSource:
    """Make noise from a seed, by one of `NOISES`. Noise that is there already is taken as it is. rows: which samples of a
    batch to make it for, see `BatchNoise` and `sample_noise`."""
    return NOISES[kind](int(noise), rows) if isinstance(noise, Integral) else noise
