"""The sizes of a SeeCoder from the names and shapes of its weights, as released files name them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isqrt

from .config import DecoderConfig, QueryConfig, SeeCoderConfig, SwinConfig

Shapes = Mapping[str, tuple[int, ...]]

# No weight's shape tells these; all released models have them.
HEADS, GLOBAL_QUERIES = 8, 4


def read_size(shapes: Shapes, key: str, axis: int) -> int:
    """Return the size of one axis of one weight. Raises ValueError where there is none."""
    if key not in shapes:
        raise ValueError(f"it has no {key}")
    if not -len(shapes[key]) <= axis < len(shapes[key]):
        raise ValueError(f"{key} is {list(shapes[key])}")
    return shapes[key][axis]


def count_layers(shapes: Shapes, prefix: str) -> int:
    """Count the layers that are numbered behind a prefix."""
    return len({match[1] for key in shapes if (match := re.match(rf"{re.escape(prefix)}(\d+)\.", key))})


def read_swin_config(shapes: Shapes) -> SwinConfig:
    """Return the backbone's, `imencoder.…`."""
    stages = [
        f"imencoder.layers.{index}.blocks." for index in range(count_layers(shapes, "imencoder.layers."))
    ]
    tables = [f"{stage}0.attn.relative_position_bias_table" for stage in stages]
    return SwinConfig(
        width=read_size(shapes, "imencoder.patch_embed.proj.weight", 0),
        depths=tuple(count_layers(shapes, stage) for stage in stages),
        heads=tuple(read_size(shapes, table, 1) for table in tables),
        window=(
            isqrt(read_size(shapes, "imencoder.layers.0.blocks.0.attn.relative_position_bias_table", 0)) + 1
        )
        // 2,
    )


def read_decoder_config(shapes: Shapes) -> DecoderConfig:
    """Return the decoder's, `imdecoder.…`."""
    found = {}
    for group, leaf in (("inproj", r"0\.weight"), ("lateral", "weight")):
        pattern = rf"imdecoder\.{group}_layers\.(res\d)\.{leaf}$"
        found[group] = {
            match[1]: read_size(shapes, key, 1) for key in sorted(shapes) if (match := re.match(pattern, key))
        }
    return DecoderConfig(
        levels=found["inproj"],
        finer={name: width for name, width in found["lateral"].items() if name not in found["inproj"]},
        width=read_size(shapes, "imdecoder.level_embed", 1),
        layers=count_layers(shapes, "imdecoder.transformer.layers."),
        mlp_width=read_size(shapes, "imdecoder.transformer.layers.0.linear1.weight", 0),
    )


def read_query_config(
    shapes: Shapes, heads: int = HEADS, global_queries: int = GLOBAL_QUERIES
) -> QueryConfig:
    """Return the query transformer's, `qtransformer.…`; SeeCoder-PA is one that has a `pe_layer`."""
    queries, width = (read_size(shapes, "qtransformer.init_query.weight", axis) for axis in (0, 1))
    projected = "qtransformer.input_proj.0.weight" in shapes
    position_aware = any(key.startswith("qtransformer.pe_layer.") for key in shapes)
    inputs = read_size(shapes, "qtransformer.input_proj.0.weight", 1) if projected else width
    return QueryConfig(
        inputs=inputs,
        width=width,
        global_queries=global_queries,
        local_queries=queries - global_queries,
        heads=heads,
        layers=count_layers(shapes, "qtransformer.transformer_crossatt_layers."),
        mlp_width=read_size(shapes, "qtransformer.transformer_feedforward_layers.0.linear1.weight", 0),
        levels=read_size(shapes, "qtransformer.level_embed.weight", 0),
        frequencies=read_size(shapes, "qtransformer.pe_layer.mlp.0.weight", 1) // 4 if position_aware else 0,
        project_inputs=projected and inputs == width,
    )


def read_seecoder_config(
    shapes: Shapes, heads: int = HEADS, global_queries: int = GLOBAL_QUERIES
) -> SeeCoderConfig:
    """Return the whole model's.

    Raises ValueError, with the end of a sentence, for weights that are no SeeCoder.
    """
    return SeeCoderConfig(
        read_swin_config(shapes),
        read_decoder_config(shapes),
        read_query_config(shapes, heads, global_queries),
    )
