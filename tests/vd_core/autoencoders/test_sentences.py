"""Removing what a decoded sentence says twice."""

import pytest

from vd_core.autoencoders.sentences import remove_duplicate_phrases


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("", ""),
        ("a a a a", "a"),
        ("the car the car on", "the car on"),
        ("a b a b a b c", "a b c"),
        ("a b a", "a b a"),
        ("a a b a a b", "a b"),  # short phrases first
        ("Red red", "Red red"),
        ("wait... (wait) what?!", "wait. (wait) what?!"),
        ("yes, yes, yes.", "yes, yes."),  # with their punctuation these are different phrases
        ("((a)) [b b]", "(a) [b]"),
        ("yes, yes, no.", "yes, no."),
        ("(a) (a) b", "(a) b"),
        ("red car. red car.", "red car."),
        ("a b c a b c d", "a b c d"),
        # As the official app writes them: lone marks are written onto their neighbours.
        ("a man ( left ) with a dog", "a man (left) with a dog"),
        ("two cats : one black", "two cats: one black"),
        ("a sign that says ; stop", "a sign that says; stop"),
        ("a dog ... in the park", "a dog. in the park"),
        ("a dog . . . in the park", "a dog. in the park"),
        ("a ( ) b", "a () b"),
        # Here the app leaves the name of its joint, "<puncnext> .".
        ("...", "."),
        (". a", ". a"),
        ("a (", "a ("),
        ("mother-in-law don't don't", "mother-in-law don't"),
        (" many   blanks\n here ", "many blanks here"),
        ("a \0 b \0 \0b", "a \0 b \0 \0b"),  # any character that GPT-2 can write
    ],
)
def test_remove_duplicate_phrases(said, kept):
    assert remove_duplicate_phrases(said) == kept


@pytest.mark.parametrize(
    "sentence", ["a cat (small), on a [red] mat; well: yes!", "one two three one two", ". (a"]
)
def test_a_sentence_without_repetition_stays(sentence):
    assert remove_duplicate_phrases(sentence) == sentence
