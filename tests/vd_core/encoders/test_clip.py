"""CLIP contexts: norms, masks, batches, what transformers itself says, refusals."""

import logging
from dataclasses import replace

import pytest
import torch
from rounding import assert_rounded
from transformers import CLIPTextModelWithProjection

from vd_core.config import ClipConfig
from vd_core.encoders.clip import Clip, normalise, weigh_by_masks

TEXTS = ("a cat's hat", "red apple, noto style", "two dogs don't run, 3d style")


@pytest.fixture(scope="module")
def clip(model):
    return model.clip


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 64, 80, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def pixels(clip, images):
    size = clip.config.image_size
    return normalise(images[..., :size, :size])


@pytest.fixture(scope="module")
def masks():
    return torch.rand(2, 1, 30, 50, generator=torch.Generator().manual_seed(1))


# Text


@torch.no_grad()
def test_text_tokens_are_projected_and_share_the_norm_of_the_first_end_token(clip):
    ids = clip.tokenizer(list(TEXTS))
    tokens, size = clip.encode_text(TEXTS), clip.config
    assert tokens.shape == (3, size.text.positions, size.projection_dim)
    ends = [row.index(size.text.vocab_size - 1) for row in ids.tolist()]
    assert all(1 < end < size.text.positions - 1 for end in ends)
    output = clip.text_tower(input_ids=ids)
    for tokens_, hidden, pooled, end in zip(
        tokens, output.last_hidden_state, output.text_embeds, ends, strict=True
    ):
        norm = pooled.norm()
        torch.testing.assert_close(
            tokens_, clip.text_tower.text_projection(hidden) / norm, rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(tokens_[end], pooled / norm, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_each_prompt_alone_gives_what_it_gives_in_a_batch(clip):
    alone = torch.cat([clip.encode_text([text]) for text in TEXTS])
    assert_rounded(clip.encode_text(TEXTS), alone)


@torch.no_grad()
def test_the_end_is_the_first_maximal_id(clip):
    """Even where it is not the end id of the tower's config: the hub's CLIP says 2 there."""
    ids = torch.randint(0, 20, (2, 12), generator=torch.Generator().manual_seed(0))
    ids[0, 3], ids[0, 8], ids[1, 6] = 25, 25, 30
    tokens = clip.encode_ids(ids)
    torch.testing.assert_close(tokens[[0, 1], [3, 6]].norm(dim=-1), torch.ones(2))
    assert (tokens[0, 8].norm() - 1).abs() > 1e-3


@torch.no_grad()
def test_a_prompt_only_looks_back(clip):
    ids = clip.tokenizer([TEXTS[0]]).repeat(2, 1)
    ids[1, -1] = 0  # behind the first end token
    first, second = clip.encode_ids(ids)
    torch.testing.assert_close(first[:-1], second[:-1])
    assert not torch.allclose(first[-1], second[-1], atol=1e-3)


# Pictures


@torch.no_grad()
def test_picture_tokens_are_projected_and_share_the_norm_of_the_global_one(clip, pixels):
    tokens = clip.encode_pixels(pixels)
    output = clip.vision_tower(pixel_values=pixels)
    vision = clip.vision_tower
    expected = vision.visual_projection(vision.vision_model.post_layernorm(output.last_hidden_state))
    norm = output.image_embeds.norm(dim=-1)[:, None, None]
    torch.testing.assert_close(tokens, expected / norm, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tokens[:, 0].norm(dim=-1), torch.ones(2))
    assert tokens.shape == (2, clip.config.vision.positions, clip.config.projection_dim)


@torch.no_grad()
def test_each_picture_alone_gives_what_it_gives_in_a_batch(clip, images, masks):
    """An all-ones mask in the batch included: the official code looks at the whole batch of masks."""
    masks = torch.cat([masks[:1], torch.ones_like(masks[:1])])
    alone = torch.cat([clip.encode_image(images[i, None], masks[i, None]) for i in range(2)])
    assert_rounded(clip.encode_image(images, masks), alone)
    torch.testing.assert_close(alone[1], clip.encode_image(images)[1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_mask_of_ones_changes_nothing(clip, images):
    assert torch.equal(clip.encode_image(images, torch.ones(2, 1, 33, 44)), clip.encode_image(images))


@torch.no_grad()
def test_a_mask_of_zeros_leaves_nothing(clip, images):
    tokens = clip.encode_image(images, torch.zeros(1, 1, 33, 44))
    assert torch.equal(tokens, torch.zeros_like(tokens))


@torch.no_grad()
def test_a_masked_patch_is_zero_and_what_it_shows_does_not_matter(clip, images):
    size, patch = clip.config.image_size, clip.config.patch_size
    pictures = images[:1, :, :size, :size]
    mask = torch.ones(1, 1, size, size)
    mask[..., :patch, :patch] = 0
    changed = pictures.clone()
    changed[..., :patch, :patch] = 1
    tokens = clip.encode_image(pictures, mask)
    assert torch.equal(tokens[:, 1], torch.zeros_like(tokens[:, 1]))
    assert (tokens[:, 2:].norm(dim=-1) > 0).all()
    torch.testing.assert_close(clip.encode_image(changed, mask), tokens)
    assert not torch.allclose(clip.encode_image(changed), clip.encode_image(pictures), atol=1e-3)


@torch.no_grad()
def test_a_mask_scales_the_global_token_by_its_mean(clip, images, masks):
    weights = weigh_by_masks(masks, clip.config.image_size, clip.config.patch_size)
    torch.testing.assert_close(clip.encode_image(images, masks)[:, 0].norm(dim=-1), weights[:, 0, 0])


def test_a_text_is_embedded_as_its_end_token_alone(clip):
    tokens, embedded = clip.encode_text(["a cat", "a red dog"]), clip.embed_text(["a cat", "a red dog"])
    ends = clip.tokenizer(["a cat", "a red dog"]).argmax(dim=1)
    torch.testing.assert_close(embedded, tokens[torch.arange(2), ends])
    torch.testing.assert_close(embedded.norm(dim=-1), torch.ones(2))


def test_token_weights(clip):
    """By hand: the left half of every picture kept; patches row by row; out of range is clamped."""
    size, patch = clip.config.image_size, clip.config.patch_size
    side = size // patch
    mask = torch.full((2, 1, size, size), -3.0)
    mask[..., : size // 2] = 7
    mask[1, :, : size // 2] = 1
    rows = torch.tensor([1.0] * (side // 2) + [0.0] * (side // 2)).repeat(side, 1)
    second = rows.clone()
    second[: side // 2] = 1
    expected = torch.stack([torch.cat([w.mean()[None], w.flatten()]) for w in (rows, second)])
    torch.testing.assert_close(
        weigh_by_masks(mask, clip.config.image_size, clip.config.patch_size)[..., 0], expected
    )


@torch.no_grad()
def test_one_mask_serves_all_pictures(clip, images, masks):
    torch.testing.assert_close(
        clip.encode_image(images, masks[:1]), clip.encode_image(images, masks[:1].repeat(2, 1, 1, 1))
    )


@torch.no_grad()
def test_pictures_count_as_8_bit(clip, images):
    coarse = torch.floor(images * 255)
    torch.testing.assert_close(
        clip.encode_image((coarse + 0.2) / 255), clip.encode_image((coarse + 0.8) / 255), rtol=0, atol=0
    )


@torch.no_grad()
def test_pictures_in_half_precision_lose_nothing_on_the_way(clip, images):
    assert torch.equal(clip.encode_image(images.half()), clip.encode_image(images.half().float()))


def test_normalised_pixels():
    """OpenAI's mean colour becomes 0, one standard deviation above it 1."""
    colours = torch.tensor([[0.48145466, 0.4578275, 0.40821073], [0.7500842, 0.7191301, 0.6839878]])
    values = normalise(colours[..., None, None].expand(2, 3, 4, 5))
    torch.testing.assert_close(
        values, torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 3, 4, 5), rtol=0, atol=1e-6
    )


# Building


@torch.no_grad()
def test_built_on_meta_and_assigned(clip, images):
    with torch.device("meta"):
        empty = Clip(clip.config, clip.tokenizer)
    for tower in ("text_tower", "vision_tower"):
        getattr(empty, tower).load_state_dict(getattr(clip, tower).state_dict(), strict=True, assign=True)
    assert torch.equal(empty.encode_text(TEXTS), clip.encode_text(TEXTS))
    assert torch.equal(empty.encode_image(images), clip.encode_image(images))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_weights(clip, images, masks, dtype):
    half = Clip(clip.config, clip.tokenizer).to(dtype)
    half.load_state_dict(clip.state_dict())
    for ours, exact in (
        (half.encode_text(TEXTS), clip.encode_text(TEXTS)),
        (half.encode_image(images, masks), clip.encode_image(images, masks)),
    ):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.float(), exact, rtol=0, atol=0.1)


def test_only_the_wanted_towers_are_built(clip, images):
    text, vision = (Clip(clip.config, clip.tokenizer, towers=[tower]) for tower in ("text", "vision"))
    assert vision.text_tower is None and text.vision_tower is None
    assert isinstance(text.text_tower, CLIPTextModelWithProjection)
    with pytest.raises(ValueError, match="no vision tower"):
        text.encode_image(images)
    with pytest.raises(ValueError, match="no text tower"):
        vision.encode_text(["a cat"])


def test_it_starts_in_eval_mode_and_quietly(clip, caplog, monkeypatch):
    # else caplog would hear nothing
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    # transformers gives each warning once
    unseen = replace(clip.config, text=replace(clip.config.text, vocab_size=123))
    with caplog.at_level(logging.WARNING):
        assert not any(module.training for module in Clip(unseen).modules())
    assert not caplog.records


def test_the_activation_is_clips_own(clip):
    assert clip.text_tower.config.hidden_act == clip.vision_tower.config.hidden_act == "quick_gelu"


def test_size_of_the_released_model():
    with torch.device("meta"):
        clip = Clip(ClipConfig())
    sizes = [sum(p.numel() for p in tower.parameters()) for tower in (clip.text_tower, clip.vision_tower)]
    assert sizes == [123_650_304, 303_966_208]


# Refusals


@pytest.mark.parametrize("texts", [[], [3], [None, "a cat"]])
def test_prompts_must_be_texts(clip, texts):
    with pytest.raises(ValueError, match="a list of at least one prompt"):
        clip.encode_text(texts)


@torch.no_grad()
def test_a_string_is_one_prompt(clip):
    assert torch.equal(clip.encode_text("a cat"), clip.encode_text(["a cat"]))
    assert torch.equal(clip.embed_text("a cat"), clip.embed_text(["a cat"]))


@pytest.mark.parametrize(
    ("pictures", "sentence"),
    [
        (torch.full((1, 3, 8, 8), 128.0), "divide by 255"),
        (torch.linspace(-1, 1, 192).reshape(1, 3, 8, 8), "use \\(images \\+ 1\\) / 2"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "images.float\\(\\) / 255"),
        (torch.zeros(1, 3, 8, 8, device="meta"), "have no values"),
    ],
)
def test_pictures_of_other_ranges_are_refused(clip, pictures, sentence):
    with pytest.raises(ValueError, match=sentence):
        clip.encode_image(pictures)


def test_gradients_reach_pictures(clip):
    pictures = torch.rand(1, 3, 60, 70, generator=torch.Generator().manual_seed(1)).requires_grad_()
    tokens = clip.encode_image(pictures)
    # but for the rounding
    torch.testing.assert_close(tokens, clip.encode_image(pictures.detach()), atol=0.02, rtol=0)
    assert torch.autograd.grad(tokens.square().sum(), pictures)[0].abs().max() > 0


@pytest.mark.parametrize("shape", [(1, 30, 50), (3, 1, 30, 50), (2, 3, 30, 50)])
def test_masks_that_do_not_fit_are_refused(clip, images, shape):
    with pytest.raises(ValueError, match="Masks must be"):
        clip.encode_image(images, torch.ones(shape))


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 4, 64, 64), (0, 3, 64, 64)])
def test_shapes_that_are_no_pictures_are_refused(clip, shape):
    with pytest.raises(ValueError, match="Pictures must be"):
        clip.encode_image(torch.zeros(shape))


def test_tokens_beyond_the_vocabulary_are_refused(model):
    with pytest.raises(ValueError, match="its file lacks the vocabulary of its own"):
        model.clip.encode_ids(torch.tensor([[0, 49407]]))
