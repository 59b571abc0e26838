"""SeeCoder as a whole: image -> tokens."""

from __future__ import annotations

from torch import Tensor, nn

from .config import SeeCoderConfig
from .decoder import Decoder
from .query_transformer import QueryTransformer
from .swin import Swin


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
        self.imencoder = Swin(config.swin, ops)
        self.imdecoder = Decoder(config.decoder, ops)
        self.qtransformer = QueryTransformer(config.queries, ops)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Encode images as tokens [B, 148, 768], 4 global ones before 144 local ones.

        The paper draws them the other way round.

        images: [B, 3, H, W], RGB in 0..1, any size; they are not resized, and an image's tokens do not depend
                on the rest of the batch. Of the weights' dtype and on their device, unless `ops` casts.

        Raises ValueError for another shape, and for images that hold NaN or infinite values.
        """
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
            raise ValueError(
                f"SeeCoder reads RGB images [batch, 3, height, width], got {list(images.shape)}."
            )
        if not images.isfinite().all():
            raise ValueError(
                "SeeCoder reads RGB images of finite numbers, and these hold NaN or infinite values."
            )
        return self.qtransformer(list(self.imdecoder(self.imencoder(images)).values()))
