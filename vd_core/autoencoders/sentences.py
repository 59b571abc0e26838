"""Tidying of decoded sentences."""

from __future__ import annotations

OPENING, CLOSING = "([{", "?!.,:;}])"
GLUE = " "  # stands between a word and the punctuation that was written onto it; no word holds a blank


def remove_duplicate_phrases(sentence: str) -> str:
    """Remove immediately repeated phrases of any length, as the official app does: "the car the car on" -> "the car on".

    Punctuation counts as words of its own. Quirk kept: so do the joints between a word and its punctuation.
    """
    words = [token for word in sentence.split() for token in peel(word)]
    length = 1
    while length <= len(words):
        start = 0
        while start + 2 * length <= len(words):
            if words[start : start + length] == words[start + length : start + 2 * length]:
                del words[start + length : start + 2 * length]
            else:
                start += 1
        length += 1
    return " ".join(words).replace(f" {GLUE} ", "")


def peel(word: str) -> list[str]:
    """Opening brackets, word and closing punctuation of one written word as tokens, with glue between them."""
    before, after = [], []
    while len(word) > 1 and word[0] in OPENING:
        before += [word[0], GLUE]
        word = word[1:]
    while len(word) > 1 and word[-1] in CLOSING:
        after = [GLUE, word[-1], *after]
        word = word[:-1]
    return [*before, word, *after]
