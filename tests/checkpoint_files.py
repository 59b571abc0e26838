"""The tiny model with vocabularies of letters, what it computes, and the files it is written to in every
layout."""

import json
import string

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vd_core.checkpoints.parts import collect_state
from vd_core.checkpoints.write import export
from vd_core.config import VDConfig
from vd_core.context import Context
from vd_core.flows import VersatileDiffusion
from vd_core.tokenizers import Vocabularies

CONFIG = VDConfig.tiny()
IMAGE_VARIATION = ("diffuser.data.image", "diffuser.context.image", "clip_vision", "image_vae")


def tiny_vocabularies() -> Vocabularies:
    """Letters, in the sizes of the tiny model: 94 word pieces, 337 byte-pair tokens."""
    letters = string.ascii_lowercase
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    tokens = [*letters, "Ġ", *(f"Ġ{letter}" for letter in letters)]
    return Vocabularies(
        bert="\n".join(pieces + [f"[unused{n}]" for n in range(94 - len(pieces))]) + "\n",
        gpt2_vocab=json.dumps(
            {token: n for n, token in enumerate(tokens + [f"<{n}>" for n in range(337 - len(tokens))])}
        ),
        gpt2_merges="#version: 0.2\n" + "\n".join(f"Ġ {letter}" for letter in letters) + "\n",
    )


VOCABULARIES = tiny_vocabularies()


@torch.no_grad()
def outputs(model: VersatileDiffusion) -> dict[str, torch.Tensor]:
    """Return what every part of a model makes of fixed inputs."""
    generator = torch.Generator().manual_seed(1)
    tokens, t = torch.randn(2, 5, 40, generator=generator), torch.tensor([3, 700])
    latents = {
        "image": torch.randn(2, 4, 8, 8, generator=generator),
        "text": torch.randn(2, 24, generator=generator),
    }
    ids = torch.tensor([[49406, 5, 6, 49407, 49407]])
    images = torch.rand(1, 3, 32, 32, generator=generator)
    out = {
        f"{data}-{kind}": model.diffuser(x, t, [Context(kind, tokens)], data)
        for data, x in latents.items()
        for kind in ("image", "text")
    }
    out |= {"clip text": model.clip.encode_ids(ids), "clip vision": model.clip.encode_image(images)}
    out |= {"image latent": model.image_vae.encode(images), "image": model.image_vae.decode(latents["image"])}
    if "text_vae" in model.parts:
        out["text latent"] = model.text_vae.encode(["a cat", "dogs"])
        out["logits"] = model.text_vae.logits(latents["text"], torch.tensor([[338, 1, 2], [338, 4, 5]]))
    return out


def assert_same(loaded: VersatileDiffusion, model: VersatileDiffusion, without: tuple[str, ...] = ()) -> None:
    """Equal weights, and outputs equal up to what their place in memory changes in the last bits."""
    expected, tensors = outputs(model), collect_state(model)
    for key, tensor in collect_state(loaded).items():
        assert torch.equal(tensor, tensors.pop(key)), key
    assert not {key.partition(".")[0] for key in tensors} - set(without)
    for name, value in outputs(loaded).items():
        torch.testing.assert_close(value, expected.pop(name), atol=1e-6, rtol=1e-6, msg=name)
    assert bool(expected) == bool(without)


def official_extras(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Keys of the official model that carry nothing: buffers, and the unused half of each of its two
    CLIPs."""
    text, vision = (
        {k.partition(".")[2]: v for k, v in state.items() if k.startswith(f"clip_{half}.")}
        for half in ("text", "vision")
    )
    extras = {f"ctx.image.model.{key}": tensor for key, tensor in text.items()}
    extras |= {f"ctx.text.model.{key}": tensor for key, tensor in vision.items()}
    extras |= {f"ctx.{kind}.model.logit_scale": torch.tensor(1.0) for kind in ("image", "text")}
    extras["ctx.text.model.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    return extras | {"betas": torch.zeros(1000), "sqrt_recipm1_alphas_cumprod": torch.zeros(1000)}


def causal_masks(prefix: str = "") -> dict[str, torch.Tensor]:
    return {f"{prefix}decoder.transformer.h.{n}.attn.bias": torch.ones(1, 1, 48, 48) for n in range(2)}


def write_official(state, folder):
    whole = export(state, "official", CONFIG) | official_extras(state) | causal_masks("vae.text.")
    torch.save(whole, folder / "vd-four-flow-v1-0.pth")
    return [folder / "vd-four-flow-v1-0.pth"]


def write_official_parts(state, folder):
    """Return the files as they are published."""
    diffuser = {key: tensor for key, tensor in state.items() if key.startswith("diffuser.")}
    torch.save(export(diffuser, "official", CONFIG), folder / "vd.pth", _use_new_zipfile_serialization=False)
    torch.save(
        {"state_dict": export(state, "kl-f8", CONFIG) | {"loss.logvar": torch.zeros(())}, "epoch": 3},
        folder / "kl-f8.pth",
    )
    torch.save(export(state, "optimus", CONFIG) | causal_masks(), folder / "optimus-vae.pth")
    clip = export(state, "clip", CONFIG) | {"logit_scale": torch.tensor(1.0)}
    (folder / "clip").mkdir()
    save_file(clip, folder / "clip" / "model.safetensors")
    return [folder / "vd.pth", folder / "kl-f8.pth", folder / "optimus-vae.pth", folder / "clip"]


def write_deprecated(state, folder):
    torch.save(export(state, "deprecated", CONFIG), folder / "old.pth")
    return [folder / "old.pth"]


def write_open_clip(state, folder):
    rest = {key: tensor for key, tensor in state.items() if not key.startswith("clip_")}
    save_file(
        {key: t.contiguous() for key, t in export(state, "open_clip", CONFIG).items()},
        folder / "open_clip_model.safetensors",
    )
    torch.save(export(rest, "official", CONFIG), folder / "vd.pth")
    return [folder / "vd.pth", folder / "open_clip_model.safetensors"]


def write_diffusers(state, folder, rename=lambda key: key):
    """Safetensors and .bin files, as both are found in such folders."""
    members: dict[str, dict] = {}
    for key, tensor in export(state, "diffusers", CONFIG).items():
        name, _, rest = key.partition("/")
        members.setdefault(name, {})[rename(rest)] = tensor.clone()
    for name, tensors in members.items():
        (folder / name).mkdir()
        if name.endswith("unet"):
            torch.save(tensors, folder / name / "diffusion_pytorch_model.bin")
        else:
            save_file(
                tensors,
                folder
                / name
                / ("diffusion_pytorch_model.safetensors" if name == "vae" else "model.safetensors"),
            )
    return [folder]


def write_diffusers_2022(state, folder):
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(key: str) -> str:
        found = [
            name
            for name in names
            if f"mid_block.attentions.0.{name}." in key and "transformer_blocks" not in key
        ]
        return key.replace(found[0], names[found[0]]) if found else key

    return write_diffusers(state, folder, rename)


def change(path, edit, out):
    """Return a copy of a file of ours with edited tensors and the same header."""
    with safe_open(path, "pt") as file:
        header = file.metadata()
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, out, header)
    return out


def put_vocabularies(folder, names=("bert-base-cased-vocab.txt", "gpt2-vocab.json", "gpt2-merges.txt")):
    for name, text in zip(
        names, (VOCABULARIES.bert, VOCABULARIES.gpt2_vocab, VOCABULARIES.gpt2_merges), strict=True
    ):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder
