"""Optimus: the two ways through it, the decoding loop, and what it refuses."""

import copy
import logging
from dataclasses import replace

import pytest
import torch
from transformers import GPT2Config, GPT2Model

from vd_core.autoencoders.gpt2 import GPT2
from vd_core.autoencoders.optimus import Optimus, draw, edit_latent, filter_logits

TEXTS = ("red apple, noto style", "dogs", "a cat's hat, flat style and two more dogs")


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture(scope="module")
def optimus(model):
    """With weights large enough that latents and earlier tokens decide what is said."""
    optimus = copy.deepcopy(model.text_vae)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in optimus.named_parameters():
        if parameter.ndim == 2:
            scale = 0.5 if name.startswith(("decoder.w", "latent_to")) else parameter.shape[0] ** -0.5
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return optimus


@pytest.fixture(scope="module")
def latents(optimus):
    return torch.randn(3, optimus.config.latent_width, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def tokens(optimus):
    words = torch.randint(optimus.words.pad, (3, 9), generator=torch.Generator().manual_seed(2))
    return torch.cat([torch.full((3, 1), optimus.words.bos), words], dim=1)


# The two networks -------------------------------------------------------------------------------------------------------------------


def test_gpt2_is_that_of_transformers(config):
    """Without the memory slot both are plain GPT-2: the same names, shapes and values."""
    sizes = config.text_vae.decoder
    theirs = GPT2Model(
        GPT2Config(
            vocab_size=sizes.vocab_size,
            n_embd=sizes.width,
            n_layer=sizes.layers,
            n_head=sizes.heads,
            n_inner=sizes.mlp_width,
            n_positions=sizes.positions,
            bos_token_id=0,
            eos_token_id=0,
        )
    ).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours = GPT2(sizes).eval()
    ours.load_state_dict(
        {name: tensor for name, tensor in theirs.state_dict().items() if not name.endswith((".attn.bias", ".masked_bias"))}
    )
    embeddings = torch.randn(2, 7, sizes.width)
    nothing = torch.zeros(2, sizes.heads, 0, sizes.width // sizes.heads)
    hidden, cache = ours(embeddings, [(nothing, nothing)] * sizes.layers)
    expected = theirs(inputs_embeds=embeddings).last_hidden_state
    assert torch.allclose(hidden, expected, atol=1e-4 * expected.abs().max().item())
    assert len(cache) == sizes.layers and cache[0][0].shape == (2, sizes.heads, 7, sizes.width // sizes.heads)


def test_the_cache_changes_nothing(optimus, latents, tokens):
    together = optimus.logits(latents, tokens)
    cache, parts = optimus.memory(latents), []
    for part in tokens.split([1, 1, 4, 1, 3], dim=1):
        logits, cache = optimus.step(latents, part, cache)
        parts.append(logits)
    assert torch.allclose(torch.cat(parts, dim=1), together, atol=1e-4 * together.abs().max().item())
    assert cache[0][0].shape[2] == 1 + tokens.shape[1]


def test_a_token_sees_the_latent_and_the_tokens_before_it(optimus, latents, tokens):
    logits = optimus.logits(latents, tokens)
    other = tokens.clone()
    other[:, 5] = (other[:, 5] + 1) % optimus.words.pad
    changed = (optimus.logits(latents, other) - logits).abs().amax(dim=(0, 2)) > 1e-4
    assert changed.tolist() == [False] * 5 + [True] * 5
    assert ((optimus.logits(-latents, tokens) - logits).abs().amax(dim=2) > 1e-2).all()


@pytest.mark.parametrize("way", ["latent_to_memory", "latent_to_embedding"])
def test_the_latent_enters_twice(optimus, latents, tokens, way):
    half = copy.deepcopy(optimus)
    getattr(half, way).weight.zero_()
    assert (half.logits(latents, tokens) - optimus.logits(latents, tokens)).abs().max() > 0.1
    assert (half.logits(latents, tokens) - half.logits(-latents, tokens)).abs().max() > 0.1


def test_encode_is_the_mean_and_batches_change_nothing(optimus):
    latents = optimus.encode(TEXTS)
    mean, logvar = optimus.posterior(optimus.pieces(TEXTS))
    assert latents.shape == mean.shape == logvar.shape == (3, optimus.config.latent_width)
    assert torch.equal(latents, mean) and not torch.allclose(mean, logvar)
    for text, latent in zip(TEXTS, latents, strict=True):
        assert torch.allclose(optimus.encode([text])[0], latent, atol=1e-5)
    assert (latents[0] - latents[1]).abs().max() > 0.01


def test_only_training_drops_out(config, tokens, latents):
    fresh = Optimus(config.text_vae, attention="eager")
    assert not any(module.training for module in fresh.modules())
    assert torch.equal(fresh.logits(latents, tokens), fresh.logits(latents, tokens))
    fresh.train()
    assert not torch.equal(fresh.logits(latents, tokens), fresh.logits(latents, tokens))


def test_attention_implementations_agree(config, optimus, vocabularies):
    eager = Optimus(config.text_vae, vocabularies, attention="eager")
    eager.load_state_dict(optimus.state_dict())
    assert torch.allclose(eager.encode(TEXTS), optimus.encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_built_on_meta(config, vocabularies, optimus, latents, attention):
    with torch.device("meta"):
        empty = Optimus(config.text_vae, vocabularies, attention)
    empty.load_state_dict(optimus.state_dict(), strict=True, assign=True)
    assert torch.allclose(empty.encode(TEXTS), optimus.encode(TEXTS), atol=1e-5)
    assert empty.decode(latents, seeded(1, 2, 3)) == optimus.decode(latents, seeded(1, 2, 3))


def test_half_precision_takes_any_latents(optimus, latents):
    half = copy.deepcopy(optimus).to(torch.bfloat16)
    assert half.encode(TEXTS).dtype == torch.bfloat16
    assert half.decode(latents.double(), seeded(1, 2, 3)) == half.decode(latents.bfloat16(), seeded(1, 2, 3))


def test_transformers_has_nothing_to_say(config, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)  # else caplog would hear nothing
    unseen = replace(config.text_vae, encoder=replace(config.text_vae.encoder, vocab_size=77))  # it gives each warning once
    optimus = Optimus(unseen)
    optimus.posterior(torch.tensor([[2, 5, 3], [2, 3, 0]]))
    assert not caplog.records


# The decoding loop ------------------------------------------------------------------------------------------------------------------


def test_sentences_depend_on_their_own_generator_alone(optimus, latents):
    together = optimus.decode_ids(latents, seeded(1, 2, 3))
    assert together == [optimus.decode_ids(latents[i : i + 1], seeded(i + 1))[0] for i in range(3)]
    assert together[::-1] == optimus.decode_ids(latents.flip(0), seeded(3, 2, 1))
    assert together[1:] == optimus.decode_ids(latents, seeded(7, 2, 3))[1:]
    assert together[0] != optimus.decode_ids(latents, seeded(7, 2, 3))[0]
    assert len({tuple(row) for row in together}) == 3


def test_one_generator_serves_one_latent_after_the_other(optimus, latents):
    (shared,) = seeded(5)
    (stream,) = seeded(5)
    assert optimus.decode_ids(latents, shared) == [optimus.decode_ids(latent, [stream])[0] for latent in latents.split(1)]
    assert torch.equal(shared.get_state(), stream.get_state())


def test_the_loop_is_that_of_the_written_out_one(optimus, latents):
    """The official loop: no cache, softmax, one multinomial per token."""
    (ours,) = seeded(4)
    (theirs,) = seeded(4)
    rows = optimus.decode_ids(latents, ours, temperature=0.7, top_k=40, top_p=0.9)
    for latent, row in zip(latents.split(1), rows, strict=True):
        ids = [optimus.words.bos]
        while ids[-1] != optimus.words.eos and len(ids) < 30:
            logits = optimus.logits(latent, torch.tensor([ids]))[0, -1] / 0.7
            ids += torch.multinomial(filter_logits(logits, 40, 0.9).softmax(dim=0), 1, generator=theirs).tolist()
        assert row == [*ids[:29], optimus.words.eos] if len(ids) == 30 else row == ids


def test_greedy(optimus, latents):
    greedy = optimus.decode_ids(latents, seeded(1, 2, 3), temperature=0)
    generator = torch.Generator()
    before = generator.get_state()
    assert greedy == optimus.decode_ids(latents, generator, temperature=0)
    assert torch.equal(generator.get_state(), before)
    assert greedy == optimus.decode_ids(latents, seeded(4, 5, 6), temperature=1e-6)
    assert greedy == optimus.decode_ids(latents, seeded(4, 5, 6), top_k=1)
    for latent, row in zip(latents.split(1), greedy, strict=True):
        likeliest = optimus.logits(latent, torch.tensor([row[:-1]]))[0].argmax(dim=-1)
        assert likeliest[:-1].tolist() == row[1:-1]


def test_sentences_end_at_the_end_marker_or_at_the_limit(optimus, latents):
    bos, eos = optimus.words.bos, optimus.words.eos
    generators = seeded(1, 2, 3)
    plan = {generators[0]: iter([5, eos]), generators[1]: iter(range(1, 30)), generators[2]: iter([eos])}
    steps = [copy.deepcopy(rows) for rows in optimus.write(latents, generators, lambda logits, generator: next(plan[generator]))]
    assert len(steps) == 29
    assert steps[0] == [[bos, 5], [bos, 1], [bos, eos]]
    assert steps[-1] == [[bos, 5, eos], [bos, *range(1, 29), eos], [bos, eos]]
    assert next(plan[generators[1]], None) is None  # the last token is drawn, then overwritten


@pytest.mark.parametrize("shared", [True, False])
def test_progress_counts_to_the_end(optimus, latents, shared):
    calls = []
    generators = seeded(1)[0] if shared else seeded(1, 2, 3)
    rows = optimus.decode_ids(latents, generators, progress=lambda done, total: calls.append((done, total)))
    total = 87 if shared else 29
    done = [number for number, _ in calls]
    assert {number for _, number in calls} == {total} and done[-1] == total and done == sorted(set(done))
    lengths = [len(row) - 1 for row in rows]
    assert len(calls) == (sum(lengths) if shared else max(lengths))


def test_progress_may_interrupt(optimus, latents):
    class Interrupted(Exception):
        pass

    def stop(done, total):
        calls.append(done)
        if done == 3:
            raise Interrupted

    calls = []
    with pytest.raises(Interrupted):
        optimus.decode(latents, seeded(1, 2, 3), top_k=1, progress=stop)
    assert calls == [1, 2, 3]


def test_sentence(optimus):
    words = optimus.words
    assert optimus.sentence(words.encode("red apple , noto style")) == "red apple, noto style"
    glued = words.tokenizer.encode("red").ids
    assert optimus.sentence([words.bos, *glued, *words.encode("apple")[1:]]) == "apple"
    assert optimus.sentence([words.bos, words.eos]) == ""


def test_decode_is_the_sentences_of_its_ids(optimus, latents):
    texts = optimus.decode(latents, seeded(1, 2, 3))
    assert texts == [optimus.sentence(row) for row in optimus.decode_ids(latents, seeded(1, 2, 3))]
    assert all(texts)


# Filters and the edit ---------------------------------------------------------------------------------------------------------------


def kept(logits, **filters):
    return (filter_logits(logits, **filters) > -torch.inf).nonzero().flatten().tolist()


def test_filters():
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()
    assert kept(logits) == kept(logits, top_k=9) == [0, 1, 2, 3]
    assert kept(logits, top_k=2) == [1, 3] and kept(logits, top_k=1) == [1]
    assert kept(logits, top_p=0.39) == [1] and kept(logits, top_p=0.41) == [1, 3] and kept(logits, top_p=0.75) == [1, 2, 3]
    assert kept(logits, top_p=0) == [0, 1, 2, 3]
    assert kept(logits, top_p=1e-9) == [1]
    assert kept(logits, top_k=3, top_p=0.6) == [1, 3]  # of what is left: 0.4, 0.3, 0.2 over 0.9
    assert kept(torch.zeros(4), top_k=2) == [0, 1, 2, 3]  # all as large as the second


def test_draw_frequencies():
    logits, (generator,) = torch.tensor([0.1, 0.4, 0.2, 0.3]).log(), seeded(0)
    counts = torch.bincount(torch.tensor([draw(logits, generator, 0.5, 3, 1.0) for _ in range(4000)]), minlength=4) / 4000
    expected = torch.tensor([0.0, 16.0, 4.0, 9.0]) / 29
    assert torch.allclose(counts, expected, atol=0.03)


def test_edit_latent(latents):
    negative, positive = torch.randn(2, 1, latents.shape[1], generator=torch.Generator().manual_seed(3))
    removed = edit_latent(latents, negative, torch.zeros_like(positive))
    assert ((removed * negative).sum(dim=1).abs() < 1e-4).all()
    assert torch.allclose(removed, edit_latent(latents, -5 * negative, torch.zeros_like(positive)), atol=1e-5)
    assert torch.allclose(edit_latent(latents, negative, positive), removed + positive, atol=1e-5)
    assert torch.equal(edit_latent(latents, torch.zeros_like(negative), positive), latents + positive)
    each = edit_latent(latents, latents, torch.zeros_like(positive))
    assert torch.allclose(each, torch.zeros_like(each), atol=1e-5)


# Refusals ---------------------------------------------------------------------------------------------------------------------------


def test_refusals(optimus, latents):
    width = optimus.config.latent_width
    with pytest.raises(ValueError, match=rf"latents \[batch, {width}\], got \[3, {width - 1}\]"):
        optimus.decode(latents[:, 1:], seeded(1, 2, 3))
    with pytest.raises(ValueError, match=rf"got \[0, {width}\]"):
        optimus.decode(latents[:0], [])
    with pytest.raises(ValueError, match="3 latents but 2 generators"):
        optimus.decode(latents, seeded(1, 2))
    with pytest.raises(ValueError, match="temperature must be at least 0, got -1"):
        optimus.decode(latents, seeded(1, 2, 3), temperature=-1)
    with pytest.raises(ValueError, match="no text to encode"):
        optimus.encode([])


@pytest.mark.parametrize(("part", "name"), [("encoder", "BERT"), ("decoder", "GPT-2")])
def test_vocabularies_of_another_size_are_refused(config, vocabularies, part, name):
    sizes = getattr(config.text_vae, part)
    with pytest.raises(ValueError, match=f"The {name} vocabulary has {sizes.vocab_size} tokens, .* needs {sizes.vocab_size + 1}"):
        Optimus(replace(config.text_vae, **{part: replace(sizes, vocab_size=sizes.vocab_size + 1)}), vocabularies)
