"""Tidying of decoded sentences."""

from __future__ import annotations

OPENING, CLOSING = "([{", "?!.,:;}])"
GLUE = " "  # stands between a word and a mark that is written onto it; no word holds a blank


def remove_duplicate_phrases(sentence: str) -> str:
    """Remove immediately repeated phrases of any length, as the official app does: "the car the car on" ->
    "the car on".

    Opening and closing marks count as words of their own, also where they stand alone: "left ( a dog )" ->
    "left (a dog)". Quirk kept: so do the joints between a word and its marks, hence "wait..." -> "wait.". Not
    kept: at the start or the end of a text, where a mark has no word to be written onto, the app leaves the
    name of its joint ("..." -> "<puncnext> ."); here the mark stays alone.
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
    return " ".join(words).removeprefix(f"{GLUE} ").removesuffix(f" {GLUE}").replace(f" {GLUE} ", "")


def peel(word: str) -> list[str]:
    """Split one written word into opening brackets, the word and closing marks, with glue between them; a
    word of marks alone is all peeled off."""
    before: list[str] = []
    after: list[str] = []
    while word and word[0] in OPENING:
        before += [word[0], GLUE]
        word = word[1:]
    while word and word[-1] in CLOSING:
        after = [GLUE, word[-1], *after]
        word = word[:-1]
    return [*before, *([word] if word else []), *after]
