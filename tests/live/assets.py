"""Small files that the graphs load: LoRAs, a GLIGEN and a control-LoRA with random weights in the sizes of
the embedded model, a latent."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

PICTURES = Path(__file__).resolve().parents[2] / "workflows" / "input"
WIDTH, CONTEXT, CLIP_WIDTH = 128, 160, 128  # of the embedded model: its blocks, its contexts, its text tower
TEXT_LATENT = 64
SITES = [
    "input_blocks.1.1",
    "input_blocks.3.1",
    "middle_block.1",
    *(f"output_blocks.{number}.1" for number in range(4)),
]
DIFFUSERS_SITES = ["down_blocks.0.attentions.0", "down_blocks.1.attentions.0", "mid_block.attentions.0"]


def write_assets(models: Path, inputs: Path) -> None:
    """Writes everything into the model folders and the input folder of a server."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    for folder, name, tensors in (
        (
            "loras",
            "kohya",
            lora(draw, [f"lora_unet_{underscored(site)}" for site in DIFFUSERS_SITES], "_attn2_to_{}", KOHYA),
        ),
        (
            "loras",
            "diffusers",
            lora(draw, [f"unet.{site}" for site in DIFFUSERS_SITES], ".attn2.processor.to_{}", DIFFUSERS),
        ),
        (
            "loras",
            "image_branch",
            lora(draw, [f"lora_unet_{underscored(site)}_image" for site in SITES], "_attn2_to_{}", KOHYA),
        ),
        ("gligen", "gligen", gligen(draw)),
        ("controlnet", "control_lora", control_lora(draw)),
    ):
        (models / folder).mkdir(parents=True, exist_ok=True)
        save_file(tensors, models / folder / f"{name}.safetensors")
    for name in ("strawberry.png", "rocket.png"):
        shutil.copy(PICTURES / name, inputs)
    latent = {"latent_tensor": draw(2, TEXT_LATENT, 1, 1) * 0.5, "latent_format_version_0": torch.zeros(0)}
    save_file(latent, inputs / "text.latent")


KOHYA = ".lora_up.weight", ".lora_down.weight"
DIFFUSERS = "_lora.up.weight", "_lora.down.weight"


def underscored(key: str) -> str:
    """A key as kohya's trainer writes it."""
    return key.replace(".", "_")


def lora(draw, sites: list[str], layer: str, endings: tuple[str, str], rank: int = 4) -> dict[str, Tensor]:
    """A LoRA on the keys and values of cross-attention."""
    separator = "_" if layer.startswith("_") else "."
    block = f"{separator}transformer_blocks{separator}0"
    tensors = {}
    for name in (f"{site}{block}{layer.format(leaf)}" for site in sites for leaf in "kv"):
        tensors[name + endings[0]], tensors[name + endings[1]] = (
            draw(WIDTH, rank) * 0.3,
            draw(rank, CONTEXT) * 0.1,
        )
    return tensors


def gligen(draw) -> dict[str, Tensor]:
    """Gates for every site, and the net that reads boxes."""
    tensors = {}
    for site in SITES:
        shapes = {
            "attn.to_q": (WIDTH, WIDTH),
            "attn.to_k": (WIDTH, WIDTH),
            "attn.to_v": (WIDTH, WIDTH),
            "attn.to_out.0": (WIDTH, WIDTH),
        }
        shapes |= {
            "linear": (WIDTH, CLIP_WIDTH),
            "ff.net.0.proj": (8 * WIDTH, WIDTH),
            "ff.net.2": (WIDTH, 4 * WIDTH),
        }
        layers = {f"{name}.weight": draw(*shape) / shape[1] ** 0.5 for name, shape in shapes.items()}
        biased = [name for name in shapes if name not in ("attn.to_q", "attn.to_k", "attn.to_v")]
        layers |= {f"{name}.bias": torch.zeros(shapes[name][0]) for name in biased}
        for norm in ("norm1", "norm2"):
            layers |= {f"{norm}.weight": torch.ones(WIDTH), f"{norm}.bias": torch.zeros(WIDTH)}
        layers |= {"alpha_attn": torch.tensor(0.5), "alpha_dense": torch.tensor(0.5)}
        tensors |= {f"{site}.fuser.{name}": tensor for name, tensor in layers.items()}
    net = {"null_positive_feature": draw(CLIP_WIDTH), "null_position_feature": draw(64)}
    for number, (rows, columns) in {0: (512, CLIP_WIDTH + 64), 2: (512, 512), 4: (CLIP_WIDTH, 512)}.items():
        net |= {
            f"linears.{number}.weight": draw(rows, columns) / columns**0.5,
            f"linears.{number}.bias": torch.zeros(rows),
        }
    return tensors | {f"position_net.{name}": tensor for name, tensor in net.items()}


def control_lora(draw) -> dict[str, Tensor]:
    """What a ControlNet has beyond the UNet that it is made from."""
    channels = [16, 16, 32, 32, 96, 96, 256]
    steps = [(3, channels[0]), *zip(channels, channels[1:], strict=False), (channels[-1], WIDTH)]
    shapes = {f"input_hint_block.{2 * number}": (out, into, 3, 3) for number, (into, out) in enumerate(steps)}
    shapes |= {f"zero_convs.{number}.0": (WIDTH, WIDTH, 1, 1) for number in range(4)} | {
        "middle_block_out.0": (WIDTH, WIDTH, 1, 1)
    }
    tensors = {"lora_controlnet": torch.zeros(0)}
    for name, shape in shapes.items():
        tensors |= {
            f"{name}.weight": draw(*shape) / (shape[1] * shape[2] ** 2) ** 0.5,
            f"{name}.bias": torch.zeros(shape[0]),
        }
    return tensors
