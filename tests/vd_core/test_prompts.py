"""Weights in prompts."""

import pytest
import torch

from vd_core.prompts import split_by_weight
from vd_core.tokenizers import ClipTokenizer


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("", []),
        ("red apple", [("red apple", 1)]),
        ("a (red:1.5) apple", [("a ", 1), ("red", 1.5), (" apple", 1)]),
        ("(red:0)", [("red", 0)]),
        ("(red)", [("red", 1.1)]),
        ("((red))", [("red", 1.1 * 1.1)]),
        ("(a (b:2) c:0.5)", [("a ", 0.5), ("b", 2), (" c", 0.5)]),
        ("(a (b) c:0.5)", [("a ", 0.5), ("b", 0.5 * 1.1), (" c", 0.5)]),
        ("(b: c)", [("b: c", 1.1)]),
        ("(:2)", [(":2", 1.1)]),
        (r"\(red:2\)", [("(red:2)", 1)]),
        (r"(\(a\):2)", [("(a)", 2)]),
        ("a (b", [("a ", 1), ("(b", 1)]),
        ("a) b", [("a) b", 1)]),
        ("()", []),
    ],
)
def test_segments(prompt, wanted):
    found = split_by_weight(prompt)
    assert [text for text, _ in found] == [text for text, _ in wanted]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in wanted])


@pytest.fixture(scope="module")
def tokenizer():
    return ClipTokenizer(positions=12)


def test_weights_lie_on_the_tokens_of_their_words(tokenizer):
    ids, weights = tokenizer.encode_weighted(["a (red:1.5) apple", "(butterfly:0)"])
    assert torch.equal(ids, tokenizer(["a red apple", "butterfly"]))
    assert weights.tolist() == [[1, 1, 1.5, *[1] * 9], [1, 0, *[1] * 10]]


def test_a_prompt_that_is_too_long_is_cut_with_its_weights(tokenizer, caplog):
    ids, weights = tokenizer.encode_weighted(["(" + "cat " * 20 + ":2)"])
    assert torch.equal(ids, tokenizer(["cat " * 20])) and weights.tolist() == [[1, *[2] * 10, 1]]
    assert "20 tokens, 10 fit" in caplog.text
