"""Weights in prompts, written as everywhere in ComfyUI: (word:1.5) counts one and a half times, (word) 1.1
times, \\( is a parenthesis.
"""

from __future__ import annotations

import contextlib

# in between, parentheses that are meant are characters of private use
ESCAPED = (("\\(", "\ue000"), ("\\)", "\ue001"))


def split_by_weight(prompt: str) -> list[tuple[str, float]]:
    """Split a prompt into pieces of text with their weights, 1 outside of parentheses.

    A number replaces the weight around it, parentheses without one multiply it by 1.1. Parentheses that do
    not close are text.
    """
    for escape, mark in ESCAPED:
        prompt = prompt.replace(escape, mark)
    return [(restore_parentheses(piece), weight) for piece, weight in split_nested(prompt, 1.0)]


def restore_parentheses(text: str) -> str:
    """Give a text its own parentheses back."""
    for escape, mark in ESCAPED:
        text = text.replace(mark, escape[1])
    return text


def split_nested(text: str, weight: float) -> list[tuple[str, float]]:
    """Split a text that has this weight as a whole into pieces."""
    found = []
    for piece in split_groups(text):
        if len(piece) < 2 or piece[0] != "(" or piece[-1] != ")":
            found.append((piece, weight))
            continue
        inside, inner_weight = piece[1:-1], weight * 1.1
        words, _, number = inside.rpartition(":")
        if words:
            with contextlib.suppress(ValueError):  # then the colon is one of the text
                inner_weight, inside = float(number), words
        found += split_nested(inside, inner_weight)
    return found


def split_groups(text: str) -> list[str]:
    """Cut a text at its outermost parentheses, which stay."""
    pieces, start, depth = [], 0, 0
    for position, character in enumerate(text):
        if character == "(":
            if depth == 0:
                pieces.append(text[start:position])
                start = position
            depth += 1
        elif character == ")":
            depth -= 1
            if depth == 0:
                pieces.append(text[start : position + 1])
                start = position + 1
    return [piece for piece in (*pieces, text[start:]) if piece]
