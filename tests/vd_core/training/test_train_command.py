"""`versatile-diffusion train`: its options, what it shows, and how it is stopped."""

import argparse
import shutil
import sys
from dataclasses import replace

import pytest
from trainings import COMMAND, DUAL, QUICK

from vd_core.__main__ import main
from vd_core.commands import train as train_command
from vd_core.commands import training_run
from vd_core.commands.options.train import add_options
from vd_core.config import VDConfig
from vd_core.embedded import MODEL
from vd_core.training.settings import LoraSettings


def test_command_line(pictures, models, tmp_path, capsys):
    arguments = [
        "train",
        str(pictures),
        "--model",
        str(models / "tiny.safetensors"),
        "--out",
        str(tmp_path / "run"),
        *COMMAND,
    ]
    lora = [*arguments, "--lora", "2", "--layers", "context.text:attn2", "--min-snr", "5", "--device", "cpu"]
    assert main(lora) == 1
    assert (
        "image_to_image runs through none of the layers that are trained: leave it out"
        in capsys.readouterr().err
    )
    assert main([*lora, "--flows", "text_to_image", "--out", str(tmp_path / "run")]) == 1
    assert "Choose another folder, delete" in capsys.readouterr().err
    assert main([*lora, "--flows", "text_to_image", "--out", str(tmp_path / "text")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "text" / "lora.safetensors")
    assert main([*arguments, "--flows", "dual", "text_to_speech"]) == 1
    assert (
        "There is no flow text_to_speech: choose of single, dual, four, image_to_image"
        in capsys.readouterr().err
    )
    assert main([*arguments, "--steps", "1", "2"]) == 1
    assert "There are 1 stages of flows but 2 numbers of steps" in capsys.readouterr().err
    assert main([*arguments, "--lr-scales", "context"]) == 1
    assert "Scales are written GROUP=X" in capsys.readouterr().err


def test_numbers_have_ranges():
    for name, value in (
        ("lr", float("nan")),
        ("lr", 0),
        ("dropout", 7),
        ("ema", 2),
        ("size", 7),
        ("size", 0),
        ("cfg", -1),
        ("batch", 0),
        ("seed", -1),
        ("seed", 2**63),
        ("warmup", -1),
        ("weight_decay", float("inf")),
    ):
        with pytest.raises(ValueError, match=f"{name} must be a finite number from "):
            replace(QUICK, **{name: value})
    with pytest.raises(ValueError, match="size must be divisible by 8, got 36"):
        replace(QUICK, size=36)
    with pytest.raises(ValueError, match="The rank of a LoRA must be a finite number from 1"):
        LoraSettings(0, 1.0, ("context",))
    with pytest.raises(ValueError, match="alpha must be a finite number"):
        LoraSettings(1, float("nan"), ("context",))
    with pytest.raises(ValueError, match="The number of steps of image_to_image must be"):
        replace(QUICK, stages=((DUAL[:1], 0),))
    with pytest.raises(ValueError, match="The scale of data must be"):
        replace(QUICK, rates={"data": float("nan")})


def test_zero_is_not_the_default():
    parser = argparse.ArgumentParser()
    add_options(parser)

    def chosen(*options):
        return train_command.read_settings(parser.parse_args(["PICTURES", "--out", "RUN", *options]))

    assert chosen("--cfg", "0").cfg == 0
    for option in ("--lr", "--size", "--lora", "--steps", "--batch", "--every"):
        with pytest.raises(ValueError, match="must be a finite number from"):
            chosen(option, "0")


def test_the_bar_counts_steps_on_a_terminal_only(capsys, monkeypatch):
    with training_run.report_progress() as progress:
        progress(9, 20, 18.2)
    assert not capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with training_run.report_progress() as progress:
        progress(9, 20, 18.2)
        progress(20, 20, 0)
    assert "20/20" in capsys.readouterr().err


def test_stopped_by_hand_is_one_sentence(pictures, models, tmp_path, capsys, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("vd_core.training.loop.update_average", stop)
    monkeypatch.setattr("torch.nn.utils.clip_grad_norm_", stop)
    assert (
        main(
            [
                "train",
                str(pictures),
                "--model",
                str(models / "tiny.safetensors"),
                "--out",
                str(tmp_path / "run"),
                *COMMAND,
            ]
        )
        == 130
    )
    assert "error: Stopped: the same command goes on from the last checkpoint." in capsys.readouterr().err


def test_defaults_suit_the_model(monkeypatch, tmp_path):
    parser = argparse.ArgumentParser()
    add_options(parser)

    def chosen(*options):
        found = train_command.read_settings(parser.parse_args(["PICTURES", "--out", "RUN", *options]))
        return found.lr, found.size, found.cfg

    shutil.copy(MODEL, tmp_path / "own.safetensors")
    assert chosen() == chosen("--model", str(tmp_path / "own.safetensors")) == (1e-4, 64, 2.0)
    assert chosen("--lora", "8")[0] == chosen("--from-scratch")[0] == 1e-3
    assert chosen("--lora", "8", "--lr", "0.5")[0] == 0.5
    monkeypatch.setattr(train_command, "open_checkpoints", lambda files: ([], VDConfig()))
    assert chosen("--model", "a.safetensors") == (1e-5, 512, 7.5)
    for option in (["--lora", "8"], ["--from-scratch"]):
        assert chosen("--model", "a.safetensors", *option)[0] == 1e-4
