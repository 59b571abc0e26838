"""The command `distill`: what it writes, that it resumes, and what it refuses."""

import random
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from trainings import assert_same

from vd_core.__main__ import main
from vd_core.checkpoints.load import load
from vd_core.checkpoints.lora import apply_lora, read_lora
from vd_core.checkpoints.lora_changes import find_adaptable
from vd_core.commands import distill as command
from vd_core.embedded import MODEL
from vd_core.sampling.noise import sample_noise
from vd_core.sampling.options import Sampling
from vd_core.training.distill import Settings, distill

FOUR = (("image", "text"), ("image", "image"), ("text", "image"), ("text", "text"))
QUICK = Settings(flows=FOUR[:1], size=32, iterations=4, batch=2, lr=1e-3, save_every=2, sheet_size=0)


@pytest.fixture
def run(pictures, models, tmp_path):
    def run(name, settings=QUICK, progress=None):
        return load_file(distill(pictures, models / "tiny.safetensors", tmp_path / name, settings, progress))

    return run


@pytest.mark.parametrize("what", [{}, {"lora": 2}, {"method": "lcm"}], ids=["weights", "lora", "lcm"])
def test_killed_twice_at_random_steps_and_resumed_is_uninterrupted_bit_for_bit(run, what):
    settings = replace(QUICK, iterations=6, **what)
    killed_at = sorted(random.sample(range(1, 6), 2))

    def kill(step, steps, left):
        if step == killed_at[0]:
            del killed_at[0]
            raise KeyboardInterrupt

    whole = run("whole", settings)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run("parts", settings, kill)
        torch.rand(3)
    assert not killed_at
    assert_same(run("parts", settings), whole)


def test_the_command_writes_a_model_that_samples_in_few_steps(pictures, models, tmp_path, capsys):
    out, teacher = tmp_path / "run", models / "tiny.safetensors"
    options = [
        "--steps",
        "2",
        "--flows",
        "four",
        "--iterations",
        "2",
        "--batch",
        "2",
        "--size",
        "32",
        "--lr",
        "1e-3",
    ]
    assert main(["distill", str(teacher), "--data", str(pictures), "--out", str(out), *options]) == 0
    assert capsys.readouterr().out.strip() == str(out / "model.safetensors")
    assert (out / "sheet-000002.png").exists() and (out / "sheet-000002.txt").exists()
    before, after = (
        load(teacher).diffuser.state_dict(),
        load([out / "model.safetensors", teacher]).diffuser.state_dict(),
    )
    changed = {".".join(name.split(".")[:2]) for name in before if not torch.equal(before[name], after[name])}
    assert changed >= {"data.image", "data.text", "context.image", "context.text"}
    model = load([out / "model.safetensors", teacher])
    latent = torch.zeros(1, model.config.diffuser.data["image"].channels, 4, 4)
    samples = [
        model.sample(
            "image", [model.encode_text(["red apple"])], latent, sample_noise(0), Sampling(name, 2, cfg=1.0)
        )
        for name in ("ddgan", "lcm")
    ]
    assert all(sample.isfinite().all() for sample in samples) and not torch.equal(*samples)


def test_a_lora_changes_the_layers_of_its_flows(run, models, tmp_path):
    run("lora", replace(QUICK, lora=2))
    changes = read_lora(tmp_path / "lora" / "lora.safetensors", load(models / "tiny.safetensors").diffuser)
    layers = {".".join(name.removeprefix("diffuser.").split(".")[:2]) for name in changes}
    assert layers == {"context.text", "data.image"}
    assert any(change.up.any() for change in changes.values())


def test_a_lora_is_extracted_from_the_weights(run, models, tmp_path):
    """It turns the teacher into the student, but for biases and normalisations."""
    weights = run("weights", replace(QUICK, extract=1000))
    model = load(models / "tiny.safetensors")
    assert apply_lora(model, tmp_path / "weights" / "lora.safetensors") > 10
    layers = find_adaptable(model.diffuser)
    for name in (name for name in layers if f"diffuser.{name}.weight" in weights):
        wanted = weights[f"diffuser.{name}.weight"].float()
        torch.testing.assert_close(layers[name].weight, wanted, atol=2e-4, rtol=2e-3)


def test_what_is_refused(run):
    with pytest.raises(ValueError, match="nothing is left to extract"):
        replace(QUICK, lora=2, extract=2)
    with pytest.raises(ValueError, match="The method of distillation is one of ddgan, lcm, got 'turbo'"):
        replace(QUICK, method="turbo")
    with pytest.raises(ValueError, match="at least 1"):
        replace(QUICK, steps=0)
    run("one")
    with pytest.raises(ValueError, match="another run: settings is method ddgan, steps 2"):
        run("one", replace(QUICK, steps=2))


def test_what_is_not_given_follows_the_model(monkeypatch, pictures, tmp_path):
    chosen = []
    monkeypatch.setattr(command, "run_training", lambda options, settings, work: chosen.append(settings))
    arguments = ["distill", str(MODEL), "--data", str(pictures), "--out", str(tmp_path / "run")]
    assert main(arguments) == 0 and main([*arguments, "--cfg", "3", "--size", "32", "--lr", "1e-5"]) == 0
    assert [(run.size, run.cfg, run.lr) for run in chosen] == [(64, 2.0, 2e-4), (32, 3.0, 1e-5)]
