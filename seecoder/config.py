"""Sizes of a SeeCoder.

The defaults are the released models; `SeeCoderConfig.tiny()` is a test model of the same shape.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SwinConfig:
    """The backbone, Swin-L (Liu et al.

    2021); its levels are res2, res3, … at strides 4, 8, …, each twice as wide as the one before.
    """

    width: int = 192
    depths: tuple[int, ...] = (2, 2, 18, 2)
    heads: tuple[int, ...] = (6, 12, 24, 48)
    window: int = 12

    def levels(self) -> dict[str, int]:
        """Name and width of every level."""
        return {f"res{index + 2}": self.width * 2**index for index in range(len(self.depths))}


@dataclass(frozen=True)
class DecoderConfig:
    """levels: name and width of the levels that run through its transformer.

    finer: of those that only receive the finest of these.
    """

    levels: dict[str, int] = field(default_factory=lambda: {"res3": 384, "res4": 768, "res5": 1536})
    finer: dict[str, int] = field(default_factory=dict)
    width: int = 768
    layers: int = 6
    mlp_width: int = 1024


@dataclass(frozen=True)
class QueryConfig:
    """levels: how many levels it reads in turn.

    frequencies: of the position features of SeeCoder-PA (20), 0 without positions. project_inputs: project
    the maps even where they have the tokens' width already (`enforce_input_project` of the official code).
    """

    inputs: int = 768
    width: int = 768
    global_queries: int = 4
    local_queries: int = 144
    heads: int = 8
    layers: int = 9
    mlp_width: int = 2048
    levels: int = 3
    frequencies: int = 0
    project_inputs: bool = False


@dataclass(frozen=True)
class SeeCoderConfig:
    """The whole encoder. Raises ValueError for sizes that do not go together."""

    swin: SwinConfig = SwinConfig()
    decoder: DecoderConfig = DecoderConfig()
    queries: QueryConfig = QueryConfig()

    def __post_init__(self) -> None:
        levels, decoded = self.swin.levels(), self.decoder.levels | self.decoder.finer
        if any(
            heads < 1 or width % heads for heads, width in zip(self.swin.heads, levels.values(), strict=True)
        ):
            raise ValueError(
                f"The heads {self.swin.heads} of this SeeCoder's backbone do not divide its widths "
                f"{tuple(levels.values())}."
            )
        if any(levels.get(name) != width for name, width in decoded.items()):
            raise ValueError(
                f"The decoder of this SeeCoder reads the levels {decoded}, but its backbone has {levels}."
            )
        if self.queries.inputs != self.decoder.width or self.queries.levels != len(decoded):
            raise ValueError(
                f"The query transformer of this SeeCoder reads {self.queries.levels} levels of width "
                f"{self.queries.inputs}, but its decoder has {len(decoded)} of width {self.decoder.width}."
            )
        if self.decoder.width % 32 or self.queries.width % self.queries.heads:
            raise ValueError(
                f"The decoder's width {self.decoder.width} must be a multiple of 32, and the query "
                f"transformer's width {self.queries.width} one of its {self.queries.heads} heads."
            )

    @property
    def position_aware(self) -> bool:
        """Whether it is a SeeCoder-PA."""
        return self.queries.frequencies > 0

    @property
    def tokens(self) -> int:
        """How many tokens an image becomes, global and local."""
        return self.queries.global_queries + self.queries.local_queries

    @classmethod
    def tiny(cls, position_aware: bool = False) -> SeeCoderConfig:
        """Return a model of some 400 thousand parameters with every kind of layer, for tests."""
        return cls(
            SwinConfig(width=8, depths=(2, 2, 2, 2), heads=(1, 2, 2, 4), window=4),
            DecoderConfig({"res3": 16, "res4": 32, "res5": 64}, width=64, layers=2, mlp_width=48),
            QueryConfig(inputs=64, width=64, layers=4, mlp_width=64, frequencies=20 if position_aware else 0),
        )
