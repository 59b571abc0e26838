"""The small trained SeeCoder that ships with the project: it fits the embedded Versatile Diffusion."""

from pathlib import Path

MODEL = Path(__file__).parent / "seecoder_emoji.safetensors"
