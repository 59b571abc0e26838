"""Melodies of emoji: a name spelled in notes, as in B-A-C-H, in the rhythm of its style. 16 tokens each, two
for each of 8 letters."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vd_core.files import write_whole

SLOTS, TOKENS = 16, 16
REST, HOLD, LOWEST = 0, 1, 2  # the other tokens are 14 notes, upwards
LETTERS = 12  # notes that letters take: a, m and y the lowest
SCALE = (0, 2, 4, 7, 9)  # pentatonic, in semitones above C
BEAT, RATE = 0.15, 16000  # seconds of a token; samples per second


def spell(name: str, style: int) -> Tensor:
    """Spell a name as a melody [SLOTS]: its 8 letters, each played as the style does.

    A shorter name is repeated, a longer one gives its first four letters and its last four.

    style: held, twice, short, late, or with the note two above. Raises ValueError for a name without letters
           and for a sixth style.
    """
    letters = [ord(letter) - ord("a") for letter in name.lower() if "a" <= letter <= "z"]
    if not letters or not 0 <= style < 5:
        raise ValueError(
            f"{name!r} in style {style} cannot be played: names need letters a to z, and there are 5 rhythms."
        )
    letters = letters if len(letters) <= SLOTS // 2 else letters[: SLOTS // 4] + letters[-SLOTS // 4 :]
    notes = [LOWEST + letters[i % len(letters)] % LETTERS for i in range(SLOTS // 2)]
    played = [
        ((note, HOLD), (note, note), (note, REST), (REST, note), (note, note + 2))[style] for note in notes
    ]
    return torch.tensor(played).flatten()


def write_songbook(names: Sequence[str], styles: int) -> Tensor:
    """Write the melodies of all names in all styles, [names, styles, SLOTS]."""
    return torch.stack([torch.stack([spell(name, style) for style in range(styles)]) for name in names])


def recognise(melodies: Tensor, book: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of the names and of the styles [B] of the melodies in a songbook that differ in the fewest
    tokens from those [B, SLOTS]."""
    nearest = (melodies[:, None] != book.flatten(0, 1)).sum(dim=2).argmin(dim=1)
    return nearest // book.shape[1], nearest % book.shape[1]


def draw_roll(melody: Tensor, side: int = 64) -> Tensor:
    """Draw a melody [SLOTS] as a picture [3, side, side]: time to the right, high notes above, a held note
    goes on."""
    picture, cell, note = torch.full((3, SLOTS, SLOTS), 0.95), side // SLOTS, REST
    for slot, token in enumerate(melody.tolist()):
        note = note if token == HOLD else token
        if note >= LOWEST:
            picture[:, TOKENS - note, slot] = torch.tensor(
                [0.25, 0.35, 0.75] if token != HOLD else [0.6, 0.67, 0.9]
            )
    return picture.repeat_interleave(cell, 1).repeat_interleave(cell, 2)


def write_wav(path: Path, melody: Tensor) -> None:
    """Write a melody [SLOTS] to listen to: one plucked note after the other."""
    time = np.arange(int(RATE * 4 * BEAT)) / RATE
    sound = np.zeros(int(RATE * BEAT) * SLOTS + len(time))
    for slot, token in enumerate(melody.tolist()):
        if token >= LOWEST:
            octave, step = divmod(token - LOWEST, len(SCALE))
            frequency = 261.63 * 2 ** (octave + SCALE[step] / 12)
            end = slot + 1
            while end < SLOTS and melody[end] == HOLD:
                end += 1
            fading = np.exp(-5 * time) * np.clip(((end - slot) * BEAT - time) / 0.02, 0, 1)
            at = slot * int(RATE * BEAT)
            sound[at : at + len(time)] += np.sin(2 * np.pi * frequency * time) * fading
    with write_whole(path) as whole, wave.open(whole, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((sound / max(1.0, np.abs(sound).max()) * 32000).astype("<i2").tobytes())
