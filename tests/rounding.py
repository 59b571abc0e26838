"""Two ways to compute the same are equal but for rounding, which is a share of the range of the values."""

from torch import Tensor


def assert_rounded(ours: Tensor, expected: Tensor, share: float = 2e-5) -> None:
    """Assert that no value is further off than `share` of the largest expected one.

    Sums of float32 are blocked in another way by each processor, batch size and version of torch: the errors
    that this makes belong to the range of what is compared, not to the unit.
    """
    assert ours.shape == expected.shape
    error, largest = (ours - expected).abs().max().item(), expected.abs().max().item()
    assert error <= share * largest, (
        f"off by {error:.3g} where values reach {largest:.3g}: {error / largest:.3g} of the range"
    )
