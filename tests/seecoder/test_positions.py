"""SeeCoder-PA's positions in half precision.

They are computed in float32 and rounded once, where the official code computes in float16.
"""

import math

import pytest
import torch

from seecoder.positions import position_features

CPU = torch.device("cpu")


def official_half(side: int, frequencies: int) -> torch.Tensor:
    """Compute a square map's features as the official code does: offsets and exponents in float16."""
    offsets = ((torch.arange(side) + 0.5 - side / 2) / side * 2 * math.pi).half()
    angles = offsets[:, None] * (side / 2) ** torch.linspace(0, 1, frequencies).half()
    waves = torch.cat([angles.sin(), angles.cos()], dim=-1)
    return torch.cat(
        [waves[:, None].expand(side, side, -1), waves[None].expand(side, side, -1)], dim=-1
    ).flatten(0, 1)


@pytest.mark.parametrize("side", [16, 64, 128])
def test_they_are_nearer_to_float32_than_the_official_ones(side):
    """pytest tests/seecoder/test_positions.py -rP prints the distances."""
    exact = position_features(side, side, 20, CPU)
    ours, official = (
        (values.float() - exact).abs().max().item() for values in (exact.half(), official_half(side, 20))
    )
    print(f"{side}x{side}: at most {ours:.1e} from float32, the official float16 {official:.1e}")
    assert ours < 2.5e-4 < official
