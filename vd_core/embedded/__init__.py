"""The small trained model that ships with the project, and the pictures it was trained on and is measured
with."""

from pathlib import Path

FOLDER = Path(__file__).parent
MODEL = FOLDER / "versatile_diffusion_emoji.safetensors"
LORAS = FOLDER / "loras"  # for it, in a folder of their own, so that ComfyUI lists them and nothing else
FEW_STEPS = LORAS / "versatile_diffusion_emoji_4_steps.safetensors"
