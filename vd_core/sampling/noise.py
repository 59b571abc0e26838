"""Where random numbers come from: always the CPU, so that a seed means the same on every device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
    """Noise from one `generator` for the whole batch; `drawn` holds the shapes of all that was drawn so far."""

    def __init__(self, generator: Generator):
        self.generator = generator
        self.drawn: list[tuple[int, ...]] = []

    def draw(self, shape: Sequence[int]) -> Tensor:
        """The next standard normal numbers, float32 on the CPU."""
        self.drawn.append(tuple(shape))
        return normal(shape, self.generator)


class SampleNoise:
    """Noise from one generator per sample; `generators` holds those of the largest batch drawn so far."""

    def __init__(self, streams: Iterator[Generator]):
        self.generators: list[Generator] = []
        self._streams = streams

    def draw(self, shape: Sequence[int]) -> Tensor:
        """The next standard normal numbers of the first shape[0] samples, float32 on the CPU."""
        batch = shape[0]
        while len(self.generators) < batch:
            self.generators.append(next(self._streams))
        return torch.cat([normal((1, *shape[1:]), generator) for generator in self.generators[:batch]])


NoiseSource = BatchNoise | SampleNoise


def batch_noise(seed: int, drawn: Iterable[Sequence[int]] = ()) -> BatchNoise:
    """The official way: draws equal those after torch.manual_seed(seed). A sample depends on the size of its batch.

    drawn: shapes of what was drawn from this seed before; the noise goes on behind it.
    """
    noise = BatchNoise(seeded(seed))
    for shape in drawn:
        noise.draw(shape)
    return noise


def sample_noise(seed: int, first_index: int = 0) -> SampleNoise:
    """A stream per sample, so that no sample depends on the size of its batch.

    Row i of a draw belongs to sample first_index + i. Sample 0 has the stream of the plain seed; those of the others are far
    from it and from those of neighbouring seeds.
    """
    return SampleNoise(seeded(seed + index * SPREAD) for index in count(first_index))


def shared_noise(seed: int) -> SampleNoise:
    """The same stream for every sample, that of sample 0 of `sample_noise`: what differs between samples then comes from elsewhere."""
    return SampleNoise(seeded(seed) for _ in count())


# How one seed becomes the noise of a batch.
NOISES = {"per sample": sample_noise, "official": batch_noise, "shared": shared_noise}


def make_noise(noise: int | NoiseSource, kind: str) -> NoiseSource:
    """Noise from a seed, by one of `NOISES`. Noise that is there already is taken as it is."""
    return NOISES[kind](int(noise)) if isinstance(noise, Integral) else noise
