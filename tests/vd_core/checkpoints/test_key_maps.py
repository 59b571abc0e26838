"""The key maps against the full-size manifests of every official file (keys, shapes, and the map between the
layouts).
"""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from vd_core.checkpoints.key_maps import KeyMap, to_ours
from vd_core.checkpoints.layouts import detect, find_layout
from vd_core.checkpoints.parts import build, collect_state, list_parts
from vd_core.config import VDConfig
from vd_core.diffuser.plan import plan

MANIFESTS = Path(__file__).resolve().parents[2] / "golden" / "manifests"
CONFIG = VDConfig()
OFFICIAL, FURTHER = (
    "vd-four-flow-v1-0.pth",
    "vd-four-flow-v1-0.pth (further keys of the whole VD_v2_0 state dict; may or may not be in the file)",
)
OLD_VAE = "diffusers/vae (attention names in files saved before diffusers 0.15)"
DIFFUSER, CLIP = ("diffuser",), ("clip_text", "clip_vision")


def manifest(name: str) -> dict:
    return json.loads(gzip.decompress((MANIFESTS / f"{name}.json.gz").read_bytes()))


FILES = manifest("vd_official")
ALL = ("diffuser", *CLIP, "image_vae", "text_vae")


def folder(vae: str) -> dict[str, list[int]]:
    """Return a diffusers folder as it is read: keys behind the names of the subfolders."""
    members = {"image_unet": "diffusers/image_unet", "text_unet": "diffusers/text_unet", "vae": vae}
    members |= {"text_encoder": "diffusers/text_encoder", "image_encoder": "diffusers/image_encoder"}
    return {f"{name}/{key}": shape for name, file in members.items() for key, shape in FILES[file].items()}


# layout, keys with shapes, our modules that are complete in it, keys that are a second copy, keys that carry
# nothing
CASES = {
    "official": ("official", FILES[OFFICIAL], DIFFUSER, 0, 12),
    "official whole": ("official", FILES[OFFICIAL] | FILES[FURTHER], ALL, 1, 12 + 12 + 197 + 392 + 4 + 2),
    "deprecated": ("deprecated", FILES["vd-four-flow-v1-0-deprecated.pth"], DIFFUSER, 0, 12),
    "kl-f8": ("kl-f8", FILES["kl-f8.pth"], ("image_vae",), 0, 0),
    "optimus": ("optimus", FILES["optimus-vae.pth"], ("text_vae",), 1, 12),
    "diffusers": ("diffusers", folder("diffusers/vae"), (*DIFFUSER, *CLIP, "image_vae"), 4, 0),
    "diffusers 2022": ("diffusers", folder(OLD_VAE), (*DIFFUSER, *CLIP, "image_vae"), 4, 0),
    "image_unet": ("image_unet", FILES["diffusers/image_unet"], (), 0, 0),
    "text_unet": ("text_unet", FILES["diffusers/text_unet"], (), 0, 0),
    "vae": ("vae", FILES["diffusers/vae"], ("image_vae",), 0, 0),
    "vae 2022": ("vae", FILES[OLD_VAE], ("image_vae",), 0, 0),
    "clip text": ("clip", FILES["diffusers/text_encoder"], ("clip_text",), 0, 0),
    "clip vision": ("clip", FILES["diffusers/image_encoder"], ("clip_vision",), 0, 0),
}


@pytest.fixture(scope="module")
def shapes() -> dict[str, torch.Size]:
    """Every key of the full-size model with its shape."""
    return {key: tensor.shape for key, tensor in collect_state(build(CONFIG, list_parts(CONFIG))).items()}


@pytest.mark.parametrize("case", CASES)
def test_bijection(case, shapes):
    name, keys, complete, copies, ignored = CASES[case]
    layout = detect(keys, case)
    assert layout.name == name
    key_map = KeyMap(layout.rules(CONFIG))
    mapped = {key: key_map.ours(key) for key in keys if not layout.ignores(key)}
    assert len(keys) - len(mapped) == ignored
    assert all(len(ours) == 1 for ours in mapped.values())

    # There and back is the same key, and nothing else ends at the same place except declared copies.
    for key, (ours,) in mapped.items():
        assert key in [place.key for place in key_map.theirs(ours)]
    counts = Counter(ours for (ours,) in mapped.values())
    twice = [ours for ours, count in counts.items() if count > 1]
    assert len(twice) == copies == len(mapped) - len(counts)
    assert all([place.also for place in key_map.theirs(ours)] == ["", "copy"] for ours in twice)

    # Every tensor has the shape that our module needs, and the modules are complete.
    for key, (ours,) in mapped.items():
        place = next(place for place in key_map.theirs(ours) if place.key == key)
        assert to_ours(place.change, torch.empty(keys[key], device="meta")).shape == shapes[ours], key
    for module in complete:
        assert {key for key in shapes if key.startswith(f"{module}.")} <= counts.keys()


def test_every_manifest_is_tested():
    tested = {
        id(FILES[name])
        for name in (OFFICIAL, FURTHER, OLD_VAE, *(name for name in FILES if name.startswith("diffusers/")))
    }
    tested |= {id(keys) for _, keys, *_ in CASES.values()}
    assert [name for name, keys in FILES.items() if not name.startswith("_") and id(keys) not in tested] == []


def test_equal_to_the_verified_maps():
    official, deprecated, diffusers = (
        KeyMap(find_layout(name).rules(CONFIG)) for name in ("official", "deprecated", "diffusers")
    )
    rows = {key: row for key, row in manifest("vd_key_maps").items() if not key.startswith("_")}
    assert len(rows) == 1368
    for key, (old, subfolder, name) in rows.items():
        (ours,) = official.ours(key)
        assert [place.key for place in deprecated.theirs(ours)] == [old]
        subfolders = ("image_unet", "text_unet") if subfolder == "both" else (subfolder,)
        assert [place.key for place in diffusers.theirs(ours)] == [f"{one}/{name}" for one in subfolders]


def test_the_plan_has_the_official_order():
    names = {"data": "d", "context": "c", "save": "save_hidden_feature", "load": "load_hidden_feature"}
    assert [names[step.op] for step in plan(CONFIG.diffuser)] == FILES["_layer_order_full_size"]


def test_parameter_counts(shapes):
    def count(prefix: str) -> int:
        return sum(shape.numel() for key, shape in shapes.items() if key.startswith(prefix))

    published = FILES["_parameters"]
    assert count("diffuser.time_embed.") == published["global (diffuser.image.time_embed)"]
    assert count("diffuser.data.image.") == published["data (image)"]
    assert count("diffuser.context.image.") == published["context (image)"]
    assert count("diffuser.data.text.") == published["data (text)"]
    assert count("diffuser.context.text.") == published["context (text)"]
    assert count("diffuser.") == published["diffuser total"]
    assert count("image_vae.") == published["autokl (kl-f8)"]
    assert count("clip_text.") == published["clip text tower + projection"]
    assert count("clip_vision.") == published["clip vision tower + projection"]
    encoder, decoder = (
        next(count for name, count in published.items() if name.startswith(f"optimus {one}"))
        for one in ("encoder", "decoder")
    )
    assert count("text_vae.encoder") == encoder
    assert count("text_vae.") - count("text_vae.encoder") == decoder


def test_open_clip_names_equal_the_library():
    open_clip = pytest.importorskip("open_clip")
    vision = {"layers": 2, "width": 48, "head_width": 12, "patch_size": 14, "image_size": 56}
    text = {"width": 32, "heads": 4, "layers": 2, "vocab_size": 64}
    theirs = {
        key: tensor
        for key, tensor in open_clip.CLIP(40, vision, text).state_dict().items()
        if key != "logit_scale"
    }
    tiny = VDConfig.tiny()
    layout = detect(theirs, "open_clip")
    assert layout.name == "open_clip"
    key_map = KeyMap(layout.rules(tiny))
    ours = [key for name in theirs for key in key_map.ours(name)]
    assert len(set(ours)) == len(ours)
    assert {place.key for key in ours for place in key_map.theirs(key)} == theirs.keys()
