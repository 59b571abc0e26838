"""Which latents fit which flow."""

from torch import Tensor

from ..vd_core.config import DataConfig


def fit_latent(latent: Tensor, sizes: DataConfig, data: str) -> Tensor:
    """Check that a latent, [B, C, h, w] for pictures or [B, C, 1, 1] for texts, is one of this flow. An empty one is widened to the
    model's channels, as ComfyUI does it. Raises ValueError with what to wire instead."""
    if 0 in latent.shape:
        raise ValueError("latent_image is an empty batch: there is nothing to sample.")
    is_text = sizes.layers == "0d"
    if is_text != (latent.ndim == 4 and latent.shape[2:] == (1, 1)):
        wanted = "an Empty Text Latent (VD) or Text to Latent (VD)" if is_text else "an Empty Latent Image or VAE Encode"
        raise ValueError(f"latent_image does not fit: the {data} model needs {wanted}, got a latent {list(latent.shape)}.")
    if latent.shape[1] == sizes.channels:
        return latent
    if latent.count_nonzero() == 0:
        return latent.new_zeros(latent.shape[0], sizes.channels, *latent.shape[2:])
    raise ValueError(
        f"latent_image has {latent.shape[1]} channels where the {data} model has {sizes.channels}: it comes from another model."
    )
