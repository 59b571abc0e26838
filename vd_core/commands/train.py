"""`versatile-diffusion train`: train on pictures of your own."""

from __future__ import annotations

from ..training.train_command import add_options as add_options
from ..training.train_command import run as run

HELP = "train a model, or a LoRA for it, on your own pictures with captions; resumes where it was stopped"
