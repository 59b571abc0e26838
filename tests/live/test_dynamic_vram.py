"""The models of this pack under core's dynamic VRAM (default on NVIDIA GPUs): pictures equal those of a plain
run.

custom_nodes/vd_dynamic_vram makes a CPU's ComfyUI believe in it. Cores without it are skipped.
"""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from assets import write_assets
from graph import (
    APPLE,
    CLIP,
    DUAL,
    IMAGE,
    TEXT,
    Node,
    empty,
    empty_text,
    image_model,
    ksampler,
    node,
    picture,
    prompt_of,
    sentence,
)
from image_nodes import CONTROL_LORA, NET, controlled, lora
from PIL import Image
from real_server import started
from safetensors.torch import load

from runner.pack import ROOT

pytestmark = pytest.mark.comfyui

WORKFLOWS = (
    "text-to-image",
    "image-variation",
    "image-to-text",
    "text-variation",
    "dual-context",
    "ksampler-text-to-image",
    "ksampler-dual-context",
    "ksampler-text-edit",
    "seecoder-reference",
)
MODEL, VAE = IMAGE[0], IMAGE[1]
HOOKS = node("CreateHookLora", lora_name="kohya.safetensors", strength_model=1.0, strength_clip=1.0)


def words(clip) -> Node:
    """The contexts of a prompt under a CLIP that other nodes changed."""
    return node("VD_TextContext", clip=clip, text="red apple, 3d style", negative_text="")


def hooked(context: Node) -> tuple[Node, tuple[Node, int]]:
    """A context whose LoRA hook acts while it is sampled."""
    return node(
        "ConditioningSetProperties", cond_NEW=context[0], strength=1.0, set_cond_area="default", hooks=HOOKS
    ), context[1]


GRAPHS = {
    "compile": (
        picture(ksampler(node("TorchCompileModel", model=MODEL, backend="inductor"), APPLE, empty())),
    ),
    "LoRA hook": (picture(ksampler(MODEL, hooked(DUAL), empty())),),
    "CLIP hooks": (
        picture(
            ksampler(
                MODEL,
                words(node("SetClipHooks", clip=CLIP, apply_to_conds=True, schedule_clip=False, hooks=HOOKS)),
                empty(),
            )
        ),
    ),
    "LoRA": (lora("kohya", DUAL),),
    "ControlNet": (controlled(DUAL, NET),),
    "control-LoRA": (controlled(DUAL, CONTROL_LORA),),
    "save": (
        node("ModelSave", model=MODEL, filename_prefix="model"),
        node("ModelSave", model=TEXT[0], filename_prefix="text_model"),
        node("CLIPSave", clip=CLIP, filename_prefix="clip"),
        node("VAESave", vae=VAE, filename_prefix="vae"),
    ),
    "devices": (
        picture(
            ksampler(
                node("SelectModelDevice", model=MODEL, device="cpu"),
                words(node("SelectCLIPDevice", clip=CLIP, device="cpu")),
                empty(),
            ),
            node("SelectVAEDevice", vae=VAE, device="default"),
        ),
    ),
    "text model on a device": (
        sentence(ksampler(node("SelectModelDevice", model=TEXT[0], device="cpu"), APPLE, empty_text())),
    ),
    "deep clones": (
        picture(
            ksampler(
                node("VDLive_DeepClone", model=MODEL, clip=CLIP, vae=VAE)[0],
                words(node("VDLive_DeepClone", model=MODEL, clip=CLIP, vae=VAE)[1]),
                empty(),
            ),
            node("VDLive_DeepClone", model=MODEL, clip=CLIP, vae=VAE)[2],
        ),
    ),
    # Streamed bf16 weights are rounded in the GPU's pages, which there are none of here; those of a plain
    # copy are.
    "bf16, not streamed": (
        picture(ksampler(node("VDLive_Plain", model=image_model(weight_dtype="bf16")), APPLE, empty())),
    ),
}


def run(server) -> dict[str, dict[str, np.ndarray | str]]:
    """Every workflow and graph -> {what it made: pixels, texts, or the tensors of saved files}."""
    write_assets(server.base / "models", server.base / "input")
    for path in (ROOT / "workflows" / "input").iterdir():
        shutil.copy(path, server.base / "input")
    known = server.client.get("/object_info")
    prompts = {
        name: json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
        for name in WORKFLOWS
    }
    prompts |= {name: prompt_of(*outputs) for name, outputs in GRAPHS.items()}
    made = {}
    for name, prompt in prompts.items():
        if any(entry["class_type"] not in known for entry in prompt.values()):
            continue
        start = server.log.stat().st_size
        result = server.queue(prompt)
        made[name] = {
            "status": result.sentence or result.status,
            "log": server.log.read_bytes()[start:].decode(),
        }
        made[name]["texts"] = "\n".join(result.texts)
        for number, file in enumerate(
            file for ui in result.outputs.values() for file in ui.get("images", ())
        ):
            with Image.open(io.BytesIO(b"".join(server.client.view(file)))) as image:
                made[name][f"picture {number}"] = np.asarray(image.convert("RGB"), dtype=np.int16)
    for path in sorted(Path(server.base, "output").rglob("*.safetensors")):
        for key, tensor in load(path.read_bytes()).items():
            made["save"][f"{path.name}: {key}"] = tensor.float().numpy()
    return made


@pytest.fixture(scope="module")
def runs(checkout, tmp_path_factory):
    """(what the plain server made, what the one with dynamic VRAM made)."""
    if "class ModelPatcherDynamic" not in (checkout / "comfy" / "model_patcher.py").read_text(
        encoding="utf-8"
    ):
        pytest.skip("this core has no dynamic VRAM")
    found = []
    for more in ([], ["vd_dynamic_vram"]):
        with started(checkout, tmp_path_factory.mktemp("comfyui"), ["vd_live_nodes", *more]) as running:
            found.append(run(running))
    return found


@pytest.mark.parametrize("name", [*WORKFLOWS, *GRAPHS])
def test_makes_what_the_plain_run_makes(name, runs):
    if name not in runs[0]:
        pytest.skip("this core lacks a node of the graph")
    plain, dynamic = (dict(run[name]) for run in runs)
    assert (plain.pop("status"), dynamic.pop("status")) == ("success", "success")
    logs = plain.pop("log"), dynamic.pop("log")
    assert "dynamic VRAM" not in logs[0] and "passing through unchanged" not in logs[1]
    assert plain.keys() == dynamic.keys() and (len(plain) > 1 or plain["texts"])
    for key, value in plain.items():
        if isinstance(value, str):
            assert dynamic[key] == value
        else:
            assert np.array_equal(dynamic[key], value), (
                key,
                np.abs(dynamic[key] - value).max(),
                np.abs(value).max(),
            )


def test_models_were_streamed(runs):
    """Else the comparisons would say nothing."""
    log = "".join(made["log"] for made in runs[1].values())
    for model in ("FlowModel", "SD1ClipModel", "AutoencoderKL", "CLIPVisionModelProjection"):
        assert f"Model {model} prepared for dynamic VRAM loading" in log, model
