"""The sizes of a model from the config.json files of a diffusers pipeline."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..config import VDConfig
from ..foreign import quote_error
from .formats import resolve_existing

LONGEST = 8 << 20  # bytes of a JSON file; the index of 30,000 tensors takes half of it

# What diffusers can set and Versatile Diffusion has fixed. A file that says nothing about one has it so.
FIXED: dict[str, dict[str, Any]] = {
    "unet": {
        "act_fn": "silu", "center_input_sample": False, "class_embed_type": None, "downsample_padding": 1,
        "encoder_hid_dim": None, "flip_sin_to_cos": True, "freq_shift": 0, "norm_eps": 1e-5,
        "norm_num_groups": 32,
        "num_attention_heads": None, "only_cross_attention": False, "resnet_time_scale_shift": "default",
        "time_cond_proj_dim": None, "transformer_layers_per_block": 1, "use_linear_projection": False,
    },
    "vae": {
        "act_fn": "silu", "in_channels": 3, "latents_mean": None, "latents_std": None,
        "mid_block_add_attention": True,
        "norm_num_groups": 32, "out_channels": 3, "shift_factor": None, "use_post_quant_conv": True,
        "use_quant_conv": True,
    },
    "clip": {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "num_channels": 3},
    "scheduler": {"beta_schedule": "scaled_linear", "rescale_betas_zero_snr": False, "trained_betas": None},
}  # fmt: skip
KINDS = {
    "image_unet": "unet",
    "text_unet": "unet",
    "vae": "vae",
    "text_encoder": "clip",
    "image_encoder": "clip",
    "scheduler": "scheduler",
}
CLASSES = {
    "UNet2DConditionModel": "image_unet",
    "UNetFlatConditionModel": "text_unet",
    "AutoencoderKL": "vae",
    "CLIPTextModelWithProjection": "text_encoder",
    "CLIPVisionModelWithProjection": "image_encoder",
}
OTHER = {"image": "text", "text": "image"}
PREDICTIONS = {"epsilon": "eps", "v_prediction": "v"}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; an empty one where there is no file. Raises ValueError for anything
    else."""
    if not path.exists() and not path.is_symlink():
        return {}
    if resolve_existing(path).is_dir() or path.stat().st_size > LONGEST:
        raise ValueError(f"{path} is no JSON file, or one of more than {LONGEST >> 20} MB.")
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON file: {quote_error(error)}.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__} where a JSON object is needed.")
    return found


def read_pipeline_config(folder: Path, members: Collection[str], exchanged: bool) -> dict[str, Any] | None:
    """Return the sizes of a pipeline as `VDConfig.to_dict` has them, from the config.json of its parts.

    members:   the subfolders with weights. Parts without a config.json have the sizes of Versatile Diffusion
               v1.0; None if no part has one.
    exchanged: whether image_unet holds the text contexts, and text_unet those of images.

    Raises ValueError for settings that Versatile Diffusion does not have.
    """
    files = {name: read_json(folder / name / "config.json") for name in members}
    if not any(files.values()):
        return None
    files["scheduler"] = read_json(folder / "scheduler" / "scheduler_config.json")
    return collect_sizes({name: (folder / name, file) for name, file in files.items() if file}, exchanged)


def read_part_config(folder: Path) -> dict[str, Any] | None:
    """Read the sizes of a model from the config.json of one part, in a folder of its own; None where it
    states none."""
    file = read_json(folder / "config.json")
    architectures = file.get("architectures")
    names = [file.get("_class_name"), *(architectures if isinstance(architectures, list) else ())]
    part = next((part for name, part in CLASSES.items() if name in names), None)
    return collect_sizes({part: (folder, file)}, exchanged=False) if part else None


def collect_sizes(files: dict[str, tuple[Path, dict[str, Any]]], exchanged: bool) -> dict[str, Any]:
    """Return the sizes that the settings of parts state: part -> (its folder, its settings)."""
    sizes = VDConfig().to_dict()
    if any(name.endswith("_unet") for name in files):
        sizes["diffuser"] |= {"data": {}, "context": {}}
    # The image autoencoder adds to what the UNet says.
    for name, (folder, file) in sorted(files.items(), key=lambda item: item[0] == "vae"):
        for setting, value in FIXED[KINDS[name]].items():
            if file.get(setting, value) != value:
                raise ValueError(
                    f"{folder} sets {setting} to {str(file[setting])[:80]!r} where Versatile Diffusion has "
                    f"{value!r}."
                )
        try:
            READERS[KINDS[name]](name, file, sizes)
        except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError, AttributeError) as error:
            raise ValueError(
                f"The settings of {folder} cannot be understood: {quote_error(error)}."
            ) from error
    diffuser = sizes["diffuser"]
    for name, (_, file) in files.items():
        if KINDS[name] == "unet":
            kind = name.removesuffix("_unet")
            read = OTHER[kind] if exchanged else kind
            contexts = ("image", "text") if file.get("dual_cross_attention") else (read,)
            diffuser["context"] |= {context: file.get("cross_attention_dim") for context in contexts}
    diffuser["context"] = {kind: diffuser["context"][kind] for kind in OTHER if kind in diffuser["context"]}
    return sizes


def unet_sizes(name: str, file: dict[str, Any], sizes: dict[str, Any]) -> None:
    """Put what the config.json of a UNet says into the sizes."""
    kind, diffuser = name.removesuffix("_unet"), sizes["diffuser"]
    widths, blocks = file["block_out_channels"], file["layers_per_block"]
    own = {
        "model_channels": widths[0],
        "channel_mult": [width // widths[0] for width in widths],
        "num_res_blocks": [blocks] * len(widths) if isinstance(blocks, int) else blocks,
        "attention": ["CrossAttn" in block for block in file["down_block_types"]],
        "num_heads": file["attention_head_dim"],  # diffusers' name for it
    }
    if diffuser["data"] and any(diffuser[key] != value for key, value in own.items()):
        raise ValueError("its levels are not those of the other UNet")
    channels = file["in_channels"]
    data = {"layers": "0d", "channels": channels[0]} if isinstance(channels, list) else {
        "layers": "2d", "channels": channels, "latent_scale": 0.18215, "side": file.get("sample_size") or 64,
    }  # fmt: skip
    diffuser |= own
    diffuser["data"][kind] = data


def vae_sizes(name: str, file: dict[str, Any], sizes: dict[str, Any]) -> None:
    """Put what the config.json of an AutoencoderKL says into the sizes."""
    widths = file["block_out_channels"]
    sizes[f"image_{name}"] = {
        "channels": widths[0],
        "channel_mult": [width // widths[0] for width in widths],
        "num_res_blocks": file["layers_per_block"],
        "latent_channels": file["latent_channels"],
    }
    if "image" in sizes["diffuser"]["data"]:
        sizes["diffuser"]["data"]["image"]["latent_scale"] = file.get("scaling_factor", 0.18215)


def clip_sizes(name: str, file: dict[str, Any], sizes: dict[str, Any]) -> None:
    """Put what the config.json of one of CLIP's towers says into the sizes."""
    clip = sizes["clip"]
    tower = {
        "width": file["hidden_size"],
        "layers": file["num_hidden_layers"],
        "heads": file["num_attention_heads"],
        "mlp_width": file["intermediate_size"],
    }
    if name == "text_encoder":
        clip["text"] = tower | {
            "positions": file["max_position_embeddings"],
            "vocab_size": file["vocab_size"],
        }
    else:
        clip["image_size"], clip["patch_size"] = file["image_size"], file["patch_size"]
        clip["vision"] = tower | {"positions": (file["image_size"] // file["patch_size"]) ** 2 + 1}
    clip["projection_dim"] = file["projection_dim"]


def scheduler_sizes(name: str, file: dict[str, Any], sizes: dict[str, Any]) -> None:
    """Put what the settings of a scheduler say about its training into the sizes."""
    sizes[name.replace("scheduler", "schedule")] = {
        "timesteps": file["num_train_timesteps"],
        "beta_start": file["beta_start"],
        "beta_end": file["beta_end"],
        "prediction": PREDICTIONS[file.get("prediction_type", "epsilon")],
    }


READERS = {"unet": unet_sizes, "vae": vae_sizes, "clip": clip_sizes, "scheduler": scheduler_sizes}
