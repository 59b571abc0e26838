"""The text autoencoder: both networks, batching, caching, drawing words, and refusals."""

import copy
import logging
from dataclasses import replace

import pytest
import torch
from random_tensors import randn
from rounding import assert_rounded
from transformers import GPT2Config, GPT2Model

from vd_core.autoencoders.gpt2 import GPT2
from vd_core.autoencoders.optimus import Optimus, edit_latent

TEXTS = ["red apple, noto style", "a cat's hat", "two dogs don't run, flat style"]


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


LATENTS = randn(3, 24)


def test_gpt2_is_that_of_transformers(config):
    """Without the memory slot both are plain GPT-2: the same names, shapes and values."""
    sizes = config.text_vae.decoder
    shape = {
        "n_embd": sizes.width,
        "n_layer": sizes.layers,
        "n_head": sizes.heads,
        "n_inner": sizes.mlp_width,
    }
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    theirs = GPT2Model(
        GPT2Config(vocab_size=sizes.vocab_size, n_positions=sizes.positions, **shape, **ends)
    ).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours = GPT2(sizes).eval()
    ours.load_state_dict(
        {
            name: tensor
            for name, tensor in theirs.state_dict().items()
            if not name.endswith((".attn.bias", ".masked_bias"))
        }
    )
    embeddings = torch.randn(2, 7, sizes.width)
    nothing = torch.zeros(2, sizes.heads, 0, sizes.width // sizes.heads)
    hidden, cache = ours(embeddings, [(nothing, nothing)] * sizes.layers)
    expected = theirs(inputs_embeds=embeddings).last_hidden_state
    assert_rounded(hidden, expected)
    assert len(cache) == sizes.layers and cache[0][0].shape == (2, sizes.heads, 7, sizes.width // sizes.heads)


def test_encoding_a_batch_is_encoding_its_sentences(optimus):
    whole = optimus.encode(TEXTS)
    assert whole.shape == (3, 24) and (whole[0] - whole[1]).abs().max() > 1e-3
    for text, latent in zip(TEXTS, whole, strict=True):
        assert_rounded(optimus.encode([text])[0], latent)


def test_the_latent_is_the_mean_of_the_posterior(optimus):
    mean, logvar = optimus.posterior(optimus.pieces(TEXTS))
    assert (
        torch.equal(optimus.encode(TEXTS), mean)
        and logvar.shape == mean.shape
        and not torch.equal(mean, logvar)
    )


def test_encoding_ignores_case(optimus):
    assert torch.equal(optimus.encode(["RED Apple"]), optimus.encode(["red apple"]))


def test_cached_logits_are_the_uncached_ones(optimus, tokens):
    whole = optimus.logits(LATENTS, tokens)
    assert whole.shape == (3, 5, optimus.config.decoder.vocab_size)
    cache, parts = optimus.start_cache(LATENTS), []
    for chunk in (tokens[:, :1], tokens[:, 1:2], tokens[:, 2:]):
        logits, cache = optimus.step(LATENTS, chunk, cache)
        parts.append(logits)
    assert_rounded(torch.cat(parts, dim=1), whole)


def test_words_see_only_what_came_before(optimus, tokens):
    other = tokens.clone()
    other[:, 3] = tokens[:, 1]
    a, b = optimus.logits(LATENTS, tokens), optimus.logits(LATENTS, other)
    assert_rounded(a[:, :3], b[:, :3])
    assert (a[:, 3:] - b[:, 3:]).abs().max() > 1e-2


def test_logits_of_a_batch_are_those_of_its_latents(optimus, tokens):
    whole = optimus.logits(LATENTS, tokens)
    for n in range(3):
        assert_rounded(optimus.logits(LATENTS[n : n + 1], tokens[n : n + 1]), whole[n : n + 1])
    assert (whole[0] - whole[1]).abs().max() > 1e-2


@pytest.mark.parametrize("entrance", ["latent_to_memory", "latent_to_embedding"])
def test_the_latent_enters_twice(optimus, tokens, entrance):
    deaf = copy.deepcopy(optimus)
    getattr(deaf, entrance).weight.zero_()
    assert (deaf.logits(LATENTS, tokens) - optimus.logits(LATENTS, tokens)).abs().max() > 1e-3
    for name in ("latent_to_memory", "latent_to_embedding"):
        getattr(deaf, name).weight.zero_()
    assert torch.equal(deaf.logits(LATENTS, tokens), deaf.logits(-LATENTS, tokens))


def test_positions_count_from_1(optimus, tokens):
    expected = optimus.logits(LATENTS, tokens)
    for position, changes in ((0, False), (1, True), (5, True), (6, False)):
        other = copy.deepcopy(optimus)
        other.decoder.wpe.weight[position] += 1 + randn(16)
        assert torch.equal(other.logits(LATENTS, tokens), expected) != changes


def test_edited_latents_lose_one_direction_and_gain_another():
    negative, positive = randn(1, 24, seed=1), randn(1, 24, seed=2)
    edited = edit_latent(LATENTS, negative, positive)
    assert ((edited - positive) @ negative.T).abs().max() < 1e-5
    change = edited - positive - LATENTS
    torch.testing.assert_close(
        change, (change @ negative.T) / negative.square().sum() * negative, rtol=0, atol=1e-5
    )
    torch.testing.assert_close(edit_latent(LATENTS, 3 * negative, positive), edited)
    assert torch.equal(edit_latent(LATENTS, torch.zeros_like(negative), positive), LATENTS + positive)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_built_on_meta_and_filled(optimus, config, vocabularies, tokens, attention):
    with torch.device("meta"):
        empty = Optimus(config.text_vae, vocabularies, attention)
    empty.load_state_dict(optimus.state_dict(), assign=True)
    assert_rounded(empty.encode(TEXTS), optimus.encode(TEXTS))
    assert torch.equal(empty.logits(LATENTS, tokens), optimus.logits(LATENTS, tokens))
    assert (
        empty.decode(LATENTS, seeded(1, 2, 3)) == optimus.decode(LATENTS, seeded(1, 2, 3))
        and not empty.training
    )


def test_only_training_drops_out(config, tokens):
    fresh = Optimus(config.text_vae, attention="eager")
    assert not any(module.training for module in fresh.modules())
    assert torch.equal(fresh.logits(LATENTS, tokens), fresh.logits(LATENTS, tokens))
    fresh.train()
    assert not torch.equal(fresh.logits(LATENTS, tokens), fresh.logits(LATENTS, tokens))


def test_half_precision_takes_any_latents(optimus):
    half = copy.deepcopy(optimus).to(torch.bfloat16)
    assert half.encode(TEXTS).dtype == torch.bfloat16
    assert half.decode(LATENTS.double(), seeded(1, 2, 3)) == half.decode(LATENTS.bfloat16(), seeded(1, 2, 3))


def test_transformers_has_nothing_to_say(config, caplog, monkeypatch):
    # else caplog would hear nothing
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    # it gives each warning once
    unseen = replace(config.text_vae, encoder=replace(config.text_vae.encoder, vocab_size=77))
    optimus = Optimus(unseen)
    optimus.posterior(torch.tensor([[2, 5, 3], [2, 3, 0]]))
    assert not caplog.records


def test_attention_implementations_agree(optimus, config, vocabularies, tokens):
    eager = Optimus(config.text_vae, vocabularies, attention="eager")
    eager.load_state_dict(optimus.state_dict())
    assert_rounded(eager.logits(LATENTS, tokens), optimus.logits(LATENTS, tokens))
    assert_rounded(eager.encode(TEXTS), optimus.encode(TEXTS))


def test_ids_work_without_vocabularies(optimus, config, tokens):
    bare = Optimus(config.text_vae)
    bare.load_state_dict(optimus.state_dict())
    assert torch.equal(bare.logits(LATENTS, tokens), optimus.logits(LATENTS, tokens))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda o: o.encode([]), "a sentence or a list of at least one, got"),
        (lambda o: o.encode([1]), "a sentence or a list of at least one, got"),
        (lambda o: o.decode(randn(3, 23), seeded(1, 2, 3)), r"latents \[batch, 24\], got \[3, 23\]"),
        (
            lambda o: o.decode(randn(3, 24, 1, 1), seeded(1, 2, 3)),
            r"latents \[batch, 24\], got \[3, 24, 1, 1\]",
        ),
        (lambda o: o.decode(randn(0, 24), []), r"latents \[batch, 24\], got \[0, 24\]"),
        (lambda o: o.decode(LATENTS, seeded(1, 2)), "3 latents but 2 generators"),
        (
            lambda o: o.decode(LATENTS, seeded(1, 2, 3), temperature=-1),
            "temperature must be at least 0, got -1",
        ),
        (
            lambda o: o.decode(LATENTS, seeded(1, 2, 3), temperature=float("nan")),
            "temperature must be at least 0, got nan",
        ),
        (lambda o: o.decode(LATENTS, seeded(1, 2, 3), top_p=1.5), "top_p within 0..1"),
        (
            lambda o: o.decode(LATENTS.to("meta"), seeded(1, 2, 3)),
            "on the meta device, where tensors have no values",
        ),
    ],
)
def test_refusals(optimus, call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(optimus)


@pytest.mark.parametrize(("part", "name"), [("encoder", "BERT"), ("decoder", "GPT-2")])
def test_vocabularies_of_another_size_are_refused(config, vocabularies, part, name):
    sizes = getattr(config.text_vae, part)
    other = replace(config.text_vae, **{part: replace(sizes, vocab_size=sizes.vocab_size + 1)})
    with pytest.raises(ValueError, match=f"{name}.*{sizes.vocab_size}"):
        Optimus(other, vocabularies)
