"""The small trained model that ships with the project, and the pictures it was trained on and is measured
with."""

from pathlib import Path

FOLDER = Path(__file__).parent
MODEL = FOLDER / "versatile_diffusion_emoji.safetensors"
