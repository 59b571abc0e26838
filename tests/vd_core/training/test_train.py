"""Training on anyone's pictures: stages, resuming bit for bit, layer groups, the prior, several processes."""

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from trainings import COMMAND, DUAL, FOUR, QUICK, apart, assert_same, launcher, records

from vd_core.checkpoints.load import load
from vd_core.checkpoints.write import save_model
from vd_core.choices import RECIPES
from vd_core.runs import lock_folder
from vd_core.training.settings import LoraSettings, PriorSettings
from vd_core.training.train import train

LORA = LoraSettings(2, 2.0, ("context:attn",))


@pytest.fixture
def tune(pictures, models, tmp_path):
    """Run a training in the folder NAME -> the tensors it wrote."""

    def run(name, settings=QUICK, data=pictures, progress=None):
        return load_file(train(data, models / "tiny.safetensors", tmp_path / name, settings, progress))

    return run


@pytest.mark.parametrize(
    ("what", "killed_at"),
    [({}, 2), ({"lora": LORA}, 5), ({"from_scratch": True}, 3)],
    ids=["weights", "lora", "scratch"],
)
def test_killed_and_resumed_is_uninterrupted_bit_for_bit(tune, tmp_path, what, killed_at):
    settings = replace(QUICK, stages=((DUAL[:1], 3), (DUAL, 4)), save_every=2, **what)
    whole = tune("whole", settings)

    def kill(step, steps, left):
        if step == killed_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune("parts", settings, progress=kill)
    torch.rand(5)
    assert_same(tune("parts", settings), whole)
    logs = [[{**record, "seconds": 0} for record in records(tmp_path / name)] for name in ("parts", "whole")]
    assert logs[0] == logs[1]


def test_stages_train_their_flows_and_the_log_says_so(tune, tmp_path, models):
    stages = tuple((RECIPES[name], 2) for name in ("single", "dual", "four"))
    result = tune("run", replace(QUICK, stages=stages, sheet_size=2, save_every=3))
    names = [
        sorted(record.keys() - {"step", "seconds"})
        for record in records(tmp_path / "run")
        if record["step"] in (2, 4, 6)
    ]
    four = ["image_to_image", "image_to_text", "text_to_image", "text_to_text"]
    assert names == [four[:1], [four[0], four[2]], four]
    before = {
        f"diffuser.{key}": value
        for key, value in load(models / "tiny.safetensors").diffuser.state_dict().items()
    }
    assert result.keys() == before.keys()
    assert all(not torch.equal(result[key], before[key]) for key in before)
    with Image.open(tmp_path / "run" / "sheet-000006.png") as sheet:
        # pictures of 32 pixels enlarged to 160, and gaps
        columns, rows = ((side - 11) // (160 + 11) for side in sheet.size)
        assert columns == 2 and rows == 3  # the pictures, and both flows to pictures, with letters under each
    lines = (tmp_path / "run" / "sheet-000006.txt").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["image to text"] * 2 + ["text to text"] * 2
    if importlib.util.find_spec("matplotlib"):  # an extra
        with Image.open(tmp_path / "run" / "loss.png") as plot:
            assert len(plot.getcolors(plot.width * plot.height)) > 4


def test_only_the_parts_of_the_flows_are_trained_and_written(tune, models, pictures, tmp_path):
    result = tune("run", replace(QUICK, stages=((DUAL[1:], 2),)))
    assert {".".join(key.split(".")[:3]) for key in result if "time_embed" not in key} == {
        "diffuser.data.image",
        "diffuser.context.text",
    }
    whole = load([tmp_path / "run" / "model.safetensors", models / "tiny.safetensors"])
    assert torch.equal(
        whole.diffuser.state_dict()["data.image.0.conv.weight"], result["diffuser.data.image.0.conv.weight"]
    )
    assert "text_vae" in whole.parts and "text" in whole.diffuser.data


def test_from_scratch_nothing_of_the_old_diffuser_is_left(pictures, models, vocabularies, tmp_path):
    """The same result, to the bit, whatever weights the diffuser had."""
    whole = load(models / "tiny.safetensors")
    with torch.no_grad():
        for parameter in whole.diffuser.parameters():
            parameter.mul_(2).add_(1)
    save_model(tmp_path / "other.safetensors", whole, vocabularies)
    settings = replace(QUICK, stages=((FOUR, 2),), from_scratch=True)
    results = [
        load_file(train(pictures, model, tmp_path / str(number), settings))
        for number, model in enumerate((models / "tiny.safetensors", tmp_path / "other.safetensors"))
    ]
    assert_same(*results)
    old = load(models / "tiny.safetensors").diffuser.state_dict()
    assert all(
        not torch.equal(results[0][f"diffuser.{key}"], value)
        for key, value in old.items()
        if "norm" not in key
    )


def test_from_scratch_the_target_can_be_chosen(pictures, models, tmp_path):
    """A net that begins at zero has the mean square of its target as first loss; the file names it."""
    settings = replace(QUICK, stages=(((("image", "text"),), 1),), batch=64, from_scratch=True)
    own = load(models / "tiny.safetensors").config.schedule
    losses = {}
    for target in ("eps", "v"):
        file = train(
            pictures, models / "tiny.safetensors", tmp_path / target, replace(settings, target=target)
        )
        assert load([file, models / "tiny.safetensors"]).config.schedule == replace(own, prediction=target)
        losses[target] = records(tmp_path / target)[0]["text_to_image"]
    assert losses["eps"] == pytest.approx(1, abs=0.02) and abs(losses["v"] - losses["eps"]) > 1e-3
    with pytest.raises(ValueError, match="another run: target is eps, there it was v"):
        train(pictures, models / "tiny.safetensors", tmp_path / "v", replace(settings, target="eps"))
    with pytest.raises(ValueError, match="give --target with --from-scratch only"):
        replace(QUICK, target="v")


def test_scale_zero_freezes_a_group(tune, models):
    before = load(models / "tiny.safetensors").diffuser.state_dict()
    result = tune("run", replace(QUICK, gradient_scales={"data": 0.0}, rates={"global": 0.0}))
    changed = {
        key.split(".")[1]
        for key in result
        if not torch.equal(result[key], before[key.removeprefix("diffuser.")])
    }
    assert changed == {"context"}


def test_gradient_scales_of_one_change_nothing_and_of_a_half_little_under_adam(tune):
    plain, ones = (
        tune("plain"),
        tune("ones", replace(QUICK, gradient_scales={"data": 1.0, "global": 1.0}, rates={"context": 1.0})),
    )
    assert_same(plain, ones)
    halves = tune("halves", replace(QUICK, gradient_scales=dict.fromkeys(("global", "data", "context"), 0.5)))
    assert any(not torch.equal(plain[key], halves[key]) for key in plain)
    for key in plain:  # AdamW divides a constant scale out
        torch.testing.assert_close(plain[key], halves[key], rtol=0, atol=2e-3)
    slower = tune("slower", replace(QUICK, rates={"context": 0.1}))
    key = "diffuser.context.text.0.proj_in.weight"
    assert not torch.allclose(slower[key], plain[key], rtol=0, atol=5e-4)


def test_checkpointing_gives_the_same_weights(tune):
    plain, thrifty = tune("plain"), tune("thrifty", replace(QUICK, checkpointing=True))
    assert_same(plain, thrifty)


def test_prior_weight_zero_is_plain_training(tune, pictures):
    plain = tune("plain", replace(QUICK, lora=LORA))
    assert_same(tune("zero", replace(QUICK, lora=LORA, prior=PriorSettings(pictures, weight=0.0))), plain)
    kept = tune("kept", replace(QUICK, lora=LORA, prior=PriorSettings(pictures, weight=1.0)))
    assert any(not torch.equal(kept[key], plain[key]) for key in plain)


def test_the_model_draws_prior_pictures_itself(tune, tmp_path):
    prior = PriorSettings(prompts=("red apple, noto style", "a cat's hat, flat style"), count=3, weight=0.5)
    tune("run", replace(QUICK, lora=LORA, prior=prior, stages=((DUAL[1:], 2),)))
    drawn = sorted((tmp_path / "run" / "prior").glob("*.png"))
    assert [path.with_suffix(".txt").read_text() for path in drawn] == [*prior.prompts, prior.prompts[0]]
    assert records(tmp_path / "run")[-1].keys() >= {"text_to_image", "prior_text_to_image"}


def test_shift_trains_pictures_at_other_levels(tune):
    plain, shifted = tune("plain"), tune("shifted", replace(QUICK, shift=True))
    assert any(not torch.equal(plain[key], shifted[key]) for key in plain)
    texts = replace(QUICK, stages=((FOUR[2:], 3),))
    assert_same(tune("texts", texts), tune("texts shifted", replace(texts, shift=True)))


def test_frozen_weights_in_half_precision(tune, tmp_path):
    half = replace(
        QUICK,
        lora=LORA,
        stages=((FOUR, 2),),
        precision=torch.bfloat16,
        weights=torch.bfloat16,
        checkpointing=True,
        sheet_size=1,
    )
    result = tune("run", half)
    assert all(tensor.dtype in (torch.float16, torch.float32) for tensor in result.values())
    assert any(tensor.any() for key, tensor in result.items() if key.endswith("lora_up.weight"))
    assert (tmp_path / "run" / "sheet-000002.png").exists()
    with pytest.raises(ValueError, match="leave out --lora, or --from-scratch"):
        replace(half, from_scratch=True)
    with pytest.raises(ValueError, match="give --precision bf16"):
        replace(half, precision=torch.float32)


def test_without_average_the_weights_themselves_are_written(tune, tmp_path):
    result = tune("run", replace(QUICK, ema=0))
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["module"]
    assert_same(result, {f"diffuser.{key}": value for key, value in state.items()})


def test_what_does_not_fit_is_one_sentence(tune, tmp_path):
    with pytest.raises(ValueError, match="The groups of layers are global, data, context, not text"):
        tune("a", replace(QUICK, rates={"text": 2.0}))
    with pytest.raises(ValueError, match="nothing to train"):
        tune("b", replace(QUICK, rates=dict.fromkeys(("global", "data", "context"), 0.0)))
    with pytest.raises(ValueError, match='"context.sound" chooses no layer: start with one of context.image'):
        tune("c", replace(QUICK, lora=LoraSettings(2, 2.0, ("context.sound",))))
    tune("d", replace(QUICK, lora=LORA))
    with pytest.raises(
        ValueError,
        match="another run: trains is LoRA of rank 4.*there it was LoRA of rank 2.*Choose an empty folder",
    ):
        tune("d", replace(QUICK, lora=replace(LORA, rank=4)))
    with pytest.raises(ValueError, match="is nan at step|is inf at step"):
        tune("e", replace(QUICK, lr=1000, warmup=1))


@pytest.mark.slow
def test_two_processes_train_as_one_does(pictures, models, tmp_path):
    """The same curve and the same weights, to the rounding of sums in another order."""
    root = Path(__file__).resolve().parents[3]
    runs = []
    for count in (1, 2):
        out = tmp_path / str(count)
        arguments = [
            "-m",
            "vd_core",
            "train",
            str(pictures),
            "--model",
            str(models / "tiny.safetensors"),
            "--out",
            str(out),
            *COMMAND,
        ]
        done = subprocess.run(
            [
                sys.executable,
                *launcher(count),
                *arguments,
                "--warmup",
                "2",
                "--lr",
                "1e-3",
                "--every",
                "2",
                "--device",
                "cpu",
            ],
            cwd=root,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        runs.append((records(out), load_file(out / "model.safetensors")))
    (curve, weights), (other_curve, other_weights) = runs
    assert [record["step"] for record in curve] == [2, 4, 6]
    names = ("image_to_image", "text_to_image")
    differences = [
        abs(record[name] - other[name])
        for record, other in zip(curve, other_curve, strict=True)
        for name in names
    ]
    print(f"losses: at most {max(differences):.1g} apart")
    assert max(differences) < 2e-5
    assert apart(weights, other_weights, models) < 1e-4


def test_a_batch_is_shared_evenly(tune, monkeypatch):
    from vd_core.training import distributed

    monkeypatch.setattr(distributed, "size", lambda: 3)
    with pytest.raises(
        ValueError, match="A batch of 2 cannot be shared by 3 processes: choose a multiple of 3"
    ):
        tune("run")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lr": 2e-3}, "lr is 0.002, there it was 0.001"),
        ({"batch": 4}, "batch is 4, there it was 2"),
        ({"seed": 1}, "seed is 1, there it was 0"),
        ({"dropout": 0.5}, "dropout is 0.5, there it was 0.1"),
        (
            {"stages": ((DUAL[:1], 3), (DUAL, 3))},
            "flows is image_to_image image_to_image.text_to_image, there it was .*",
        ),
    ],
)
def test_changed_settings_are_refused_or_accepted_and_recorded(tune, tmp_path, change, words):
    first = replace(QUICK, stages=((DUAL, 2),))
    tune("run", first)
    changed = replace(QUICK, **change)
    with pytest.raises(
        ValueError, match=f"holds another run: {words}. Choose an empty folder.* or go on all the same"
    ):
        tune("run", changed)
    tune("run", replace(changed, accept_changes=True))
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert (
        state["step"] == 6 and len(state["accepted"]) == 1 and state["accepted"][0].startswith("at step 2: ")
    )
    tune("run", changed)


def test_a_longer_run_is_the_same_run(tune):
    tune("run", replace(QUICK, stages=((DUAL, 2),)))
    tune("run", replace(QUICK, stages=((DUAL, 4),), save_every=1, sheet_size=1, cfg=3.0))


def test_a_folder_serves_one_run_at_a_time(tune, tmp_path):
    with (
        lock_folder(tmp_path / "run" / "data"),
        pytest.raises(ValueError, match="data is in use by another run"),
    ):
        tune("run")
    with lock_folder(tmp_path / "run"), pytest.raises(ValueError, match="run is in use by another run"):
        tune("run")
