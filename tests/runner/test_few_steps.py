"""Four steps with the LoRA that comes with the project: its workflow, and what it draws."""

import json
from pathlib import Path

import torch

from runner.command import main
from vd_core.checkpoints.load import load
from vd_core.checkpoints.lora import apply_lora
from vd_core.embedded import FEW_STEPS, FOLDER, MODEL
from vd_core.sampling.noise import sample_noise
from vd_core.sampling.options import Sampling
from vd_core.training.dataset import CaptionedPictures
from vd_core.training.evaluate import measure_nearest

WORKFLOW = Path(__file__).resolve().parents[2] / "workflows" / "api" / "few-steps.json"


def test_the_workflow_takes_four_steps_without_guidance_offline(tmp_path):
    nodes = json.loads(WORKFLOW.read_text(encoding="utf-8")).values()
    (sampler,) = (node["inputs"] for node in nodes if node["class_type"] == "VD_Sampler")
    assert (sampler["sampler"], sampler["steps"], sampler["cfg"]) == ("dpmpp_2m", 4, 1)
    assert main([str(WORKFLOW), "--output", str(tmp_path)]) == 0
    assert len(list(tmp_path.glob("few-steps_*.png"))) == 4


@torch.inference_mode()
def test_four_steps_draw_what_is_asked_for():
    """Of 16 prompts and of 16 pictures that it was trained on, at least 14 samples come nearest to their own
    of all 1,279 pictures, among five."""
    data, model = CaptionedPictures.load(FOLDER), load(MODEL)
    apply_lora(model, FEW_STEPS)
    latents = torch.cat([model.image_vae.encode(chunk) for chunk in data.pixels.split(64)])
    own = data.train[torch.linspace(0, len(data.train) - 1, 16).long()]
    for context in (
        model.encode_text([data.captions[i] for i in own]),
        model.encode_image(data.pixels[own]),
    ):
        sampling = Sampling("ddgan", steps=4, cfg=1.0)
        drawn = model.sample("image", [context], latents[own], sample_noise(0), sampling)
        assert measure_nearest(drawn, latents, own)["top-5"] >= 14 / 16
