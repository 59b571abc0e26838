"""Random tensors that are the same in every run."""

import torch
from torch import Tensor


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw standard normal numbers from a seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def randn64(*shape: int, seed: int = 0) -> Tensor:
    """Draw standard normal numbers in float64."""
    return randn(*shape, seed=seed, dtype=torch.float64)
