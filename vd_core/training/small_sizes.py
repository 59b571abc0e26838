"""The sizes of the small model that ships with the project."""

from __future__ import annotations

from ..config import (
    ClipConfig,
    DataConfig,
    DiffuserConfig,
    ImageVAEConfig,
    ScheduleConfig,
    TextVAEConfig,
    TransformerConfig,
    VDConfig,
)
from ..tokenizers import ClipTokenizer, Gpt2Tokenizer, Vocabularies


def make_sizes(words: Vocabularies) -> VDConfig:
    """Return the sizes: every part of VD in small, about 18 M parameters in all.

    Pictures are 64x64, their latents 16x8x8, those of texts 64.
    """
    bpe = ClipTokenizer(words.clip_merges).bpe
    return VDConfig(
        diffuser=DiffuserConfig(
            model_channels=128,
            channel_mult=(1, 1),
            num_res_blocks=(1, 1),
            attention=(True, True),
            num_heads=4,
            data={
                "image": DataConfig("2d", channels=16, side=8),
                "text": DataConfig("0d", channels=64, second_dim=2),
            },
            context={"image": 160, "text": 160},
        ),
        schedule=ScheduleConfig(prediction="v"),
        clip=ClipConfig(
            text=TransformerConfig(128, 2, 4, 512, positions=32, vocab_size=bpe.vocab_size),
            vision=TransformerConfig(128, 3, 8, 512, positions=65),
            image_size=64,
            patch_size=8,
            projection_dim=160,
        ),
        image_vae=ImageVAEConfig(
            channels=32, channel_mult=(1, 1, 2, 4), num_res_blocks=1, latent_channels=16
        ),
        text_vae=TextVAEConfig(
            encoder=TransformerConfig(128, 2, 4, 256, positions=32, vocab_size=len(words.bert.splitlines())),
            decoder=TransformerConfig(
                128,
                3,
                4,
                512,
                positions=32,
                vocab_size=Gpt2Tokenizer(words.gpt2_vocab, words.gpt2_merges).eos + 1,
            ),
            latent_width=64,
            max_pieces=30,
            max_tokens=30,
        ),
    )
