"""SeeCoder as a whole: image -> tokens."""

from __future__ import annotations

from math import isfinite

from torch import Tensor, nn

from .config import SeeCoderConfig
from .decoder import Decoder
from .query_transformer import QueryTransformer
from .swin import Swin

SLACK = 0.5  # how far beyond 0..1 images may lie: resizing overshoots


class SeeCoder(nn.Module):
    """Semantic context encoder of Prompt-Free Diffusion (Xu et al.

    2023, section 3.2); position-aware if its config says so.

    ops: namespace of Linear, Conv2d, GroupNorm, LayerNorm and Embedding; `torch.nn`, or a host's castable and
         offloadable ones. Every weight lies in one of these leaf modules.

    Nothing in it is random, so training mode changes nothing; the official model drops paths and jitters
    positions there.
    """

    def __init__(self, config: SeeCoderConfig, ops=nn):
        super().__init__()
        self.config = config
        self.casts = ops is not nn
        self.imencoder = Swin(config.swin, ops)
        self.imdecoder = Decoder(config.decoder, ops)
        self.qtransformer = QueryTransformer(config.queries, ops)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Encode images as tokens [B, 148, 768], 4 global ones before 144 local ones.

        The paper draws them the other way round.

        images: [B, 3, H, W], RGB in 0..1, any size; they are not resized, and an image's tokens do not depend
                on the rest of the batch. On the device of the weights, whose dtype they are converted to;
                modules of `ops` see to both themselves.

        Raises ValueError for another shape or device, for integers, and for values that are NaN, infinite or
        clearly not in 0..1.
        """
        check_images(images)
        if not self.casts:
            weight = self.imencoder.patch_embed.proj.weight
            check_devices(images, weight)
            images = images.to(weight.dtype)
        return self.qtransformer(list(self.imdecoder(self.imencoder(images)).values()))


def check_images(images: Tensor) -> None:
    """Raise ValueError unless images are RGB in 0..1; resizing may have overshot a little."""
    if not isinstance(images, Tensor):
        raise ValueError(
            f"SeeCoder reads RGB images as a tensor [batch, 3, height, width], got {type(images).__name__}."
        )
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise ValueError(f"SeeCoder reads RGB images [batch, 3, height, width], got {list(images.shape)}.")
    if not images.is_floating_point():
        raise ValueError(f"SeeCoder reads RGB images in 0..1, got {images.dtype}: use images.float() / 255.")
    if images.is_meta:
        raise ValueError("These images are on the meta device, where tensors have no values.")
    low, high = (float(bound) for bound in images.detach().aminmax())
    if not (isfinite(low) and isfinite(high)):
        raise ValueError(
            "SeeCoder reads RGB images of finite numbers, and these hold NaN or infinite values."
        )
    if low < -SLACK or high > 1 + SLACK:
        if low >= -SLACK:
            advice = "divide by 255"
        else:
            within = low >= -1 - SLACK and high <= 1 + SLACK
            advice = "use (images + 1) / 2" if within else "undo their normalisation"
        raise ValueError(f"SeeCoder reads RGB images in 0..1, got {low:.3g} to {high:.3g}: {advice}.")


def check_devices(images: Tensor, weight: Tensor) -> None:
    """Raise ValueError unless images lie where the weights do."""
    if weight.is_meta:
        raise ValueError("This SeeCoder is on the meta device, where tensors have no values: load it again.")
    if images.device != weight.device:
        raise ValueError(
            f"The images are on {images.device} and the SeeCoder is on {weight.device}: move one of them."
        )
