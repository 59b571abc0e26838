"""Good files that are cut short, and good files with wrong bits."""

from __future__ import annotations

import random
from collections.abc import Iterator

from .good_files import Case, Good, find_ending, write


def truncate(found: list[Good], rng: random.Random) -> Iterator[Case]:
    """Cut at every kind of boundary, and anywhere."""
    for good in found:
        for name, data in good.formats.items():
            edges = {
                1,
                2,
                4,
                7,
                8,
                9,
                10,
                11,
                64,
                128,
                512,
                len(data) // 2,
                len(data) - 1,
                len(data) - 2,
                len(data) - 22,
                len(data) - 100,
            }
            if name == "safetensors":
                start = 8 + int.from_bytes(data[:8], "little")
                edges |= {start - 1, start, start + 1, start + 64, 8 + (start - 8) // 2}
            edges |= {rng.randrange(1, len(data)) for _ in range(8)}
            for cut in sorted(edge for edge in edges if 0 < edge < len(data)):
                yield Case(
                    "truncated",
                    f"{good.name}.{name} cut at {cut}",
                    good,
                    write(data[:cut]),
                    False,
                    find_ending(name),
                )


def flip_bits(found: list[Good], rng: random.Random) -> Iterator[Case]:
    """Flip one to three bits in the parts of a file that say what is where."""
    for good in found:
        for name, data in good.formats.items():
            if name == "safetensors":
                areas = [(0, 8), (8, 8 + int.from_bytes(data[:8], "little"))]
            elif name == "zip":
                header = data.index(b"PK\x03\x04", len(data) // 2)  # of a tensor
                areas = [(0, 64), (64, data.index(b"PK\x03\x04", 4)), (header, header + 30)]
                areas += [(len(data) - 400, len(data))]
            else:
                areas = [
                    (
                        0,
                        min(
                            len(data), 128 if name == "npy" else data.index(b"u.") if b"u." in data else 2000
                        ),
                    )
                ]
            for start, end in areas:
                for number in range(12):
                    changed = bytearray(data)
                    for _ in range(1 + number % 3):
                        changed[rng.randrange(start, end)] ^= 1 << rng.randrange(8)
                    title = f"{good.name}.{name} {start}-{end} #{number}"
                    yield Case("bits flipped", title, good, write(bytes(changed)), True, find_ending(name))
