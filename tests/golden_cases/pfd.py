"""The network of Prompt-Free Diffusion: SD 1.5's, stored as Versatile Diffusion stores its layers; and a
ControlNet around it.

The host runs ControlNets; here one is put together from the diffuser's own layers, and its residuals are
added by hooks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from plain_diffuser import plainly
from safetensors.torch import save_file
from torch import Tensor, nn

from vd_core.checkpoints.key_maps import KeyMap, unet_model
from vd_core.checkpoints.load import load
from vd_core.config import DataConfig, DiffuserConfig, VDConfig
from vd_core.context import Context
from vd_core.diffuser.model import Diffuser
from vd_core.sampling.guidance import guide
from vd_core.sampling.noise import batch_noise
from vd_core.sampling.options import Sampling
from vd_core.sampling.samplers import run_sampler
from vd_core.sampling.schedule import Schedule

OPS = {"data": "d", "context": "c", "save": "save_hidden_feature", "load": "load_hidden_feature"}
Control = Callable[[Tensor, Tensor, Tensor], list[Tensor]]


def diffuser_config(sizes: dict, kind: str) -> DiffuserConfig:
    """Ours from the official sizes; `kind` names the one context."""
    levels = range(len(sizes["channel_mult"]))
    blocks = sizes["num_res_blocks"]
    return DiffuserConfig(
        model_channels=sizes["model_channels"],
        channel_mult=tuple(sizes["channel_mult"]),
        num_res_blocks=(blocks,) * len(levels) if isinstance(blocks, int) else tuple(blocks),
        attention=tuple(2**level in sizes["attention_resolutions"] for level in levels),
        num_heads=sizes["num_heads"],
        data={"image": DataConfig("2d", sizes["in_channels"])},
        context={kind: sizes["context_dim"]},
    )


def run_pfd(case):
    """One call and the official DDIM, both without and with control."""
    io, config = case.io, case.config
    weights = case.recipe.fill(config["param_shapes"], config["seed"])
    unet = load_unet(
        {key: tensor for key, tensor in weights.items() if key.startswith("diffuser.")}, config["unet"]
    )
    yield "layer_order", [OPS[step.op] for step in unet.plan], config["layer_order"]
    control = control_net(
        {key.removeprefix("ctl."): tensor for key, tensor in weights.items() if key.startswith("ctl.")},
        config,
    )
    for index, residual in enumerate(control(io["x"], io["t"], io["context"], io["hint"])):
        yield f"control.{index:02}", residual, io[f"control.{index:02}"]

    schedule = Schedule(VDConfig().schedule)
    steps = schedule.steps(config["steps"])
    yield "alphas_cumprod", schedule.alphas_cumprod, io["alphas_cumprod"]
    yield "ddim_timesteps", steps.timesteps.flip(0), io["ddim_timesteps"]
    yield "ddim_alphas", steps.alphas_cumprod.flip(0)[1:], io["ddim_alphas"]
    yield "ddim_alphas_prev", steps.alphas_cumprod.flip(0)[:-1], io["ddim_alphas_prev"]
    contexts = [Context("image", io["context"])]
    for suffix in ("", "_control"):
        if suffix:
            attach(unet, lambda x, t, tokens: control(x, t, tokens, io["hint"].expand(len(x), -1, -1, -1)))
        yield (
            f"eps{suffix}",
            unet(io["x"], io["t"], [Context("image", io["context"])], "image"),
            io[f"eps{suffix}"],
        )
        noise, first = batch_noise(config["noise_seed"]), []
        x = noise.draw(io[f"ddim_init{suffix}"].shape)
        yield f"ddim_init{suffix}", x, io[f"ddim_init{suffix}"]
        denoise = guide(plainly(unet) if suffix else unet, schedule, contexts, "image", config["guidance"])
        out = run_sampler(
            denoise,
            x,
            steps,
            lambda: torch.zeros(()),
            Sampling(eta=config["eta"]),
            lambda i, total, x, x0, first=first: first.append(x0),
        )
        yield f"ddim_pred_x0_first{suffix}", first[0], io[f"ddim_pred_x0_first{suffix}"]
        yield f"ddim_out{suffix}", out, io[f"ddim_out{suffix}"]


def load_unet(weights: dict[str, Tensor], sizes: dict) -> Diffuser:
    """Return the diffuser from a file in the layout of Prompt-Free Diffusion."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "pfd.safetensors")
        save_file(weights, path)
        return load(path, config=VDConfig(diffuser=diffuser_config(sizes, "image"))).diffuser


def control_net(
    weights: dict[str, Tensor], config: dict
) -> Callable[[Tensor, Tensor, Tensor, Tensor], list[Tensor]]:
    """A ControlNet (Zhang et al. 2023) from weights under its own names: (x, t, tokens, hint) -> residuals,
    the middle one last."""
    sizes = diffuser_config(config["controlnet"], "text")
    # The half of a diffuser on the way in and its middle; the rest of it runs without use.
    encoder, key_map = Diffuser(sizes), KeyMap(unet_model(sizes, "image", ["text"]))
    own = {key: tensor for key, tensor in weights.items() if key_map.ours(key)}
    state = {key_map.ours(key)[0].removeprefix("diffuser."): tensor for key, tensor in own.items()}
    stages = {
        f"{step.op}.{kind}.{step.index}"
        for step in encoder.plan
        if step.stage == "out"
        for kind in ("image", "text")
    }
    assert all(
        ".".join(key.split(".")[:3]) in stages
        for key in encoder.load_state_dict(state, strict=False).missing_keys
    )

    hint_block = nn.Sequential()
    for index in range(0, 15, 2):
        outputs, inputs = weights[f"input_hint_block.{index}.weight"].shape[:2]
        hint_block.extend(
            [nn.Conv2d(inputs, outputs, 3, stride=2 if index in (4, 8, 12) else 1, padding=1), nn.SiLU()]
        )
    del hint_block[-1]
    count = sum(step.op == "save" for step in encoder.plan)
    widths = [weights[f"zero_convs.{index}.0.weight"].shape[0] for index in range(count)]
    zero_convs = nn.Sequential(*(nn.Sequential(nn.Conv2d(width, width, 1)) for width in widths))
    middle = nn.Sequential(nn.Conv2d(sizes.model_channels * sizes.channel_mult[-1], widths[-1], 1))
    rest = nn.ModuleDict(
        {"input_hint_block": hint_block, "zero_convs": zero_convs, "middle_block_out": middle}
    )
    rest.load_state_dict({key: tensor for key, tensor in weights.items() if key not in own})

    # Outputs are counted over the layers that run; a residual is taken wherever the walk saves a skip, and
    # after the middle.
    ran = [
        sum(before.op in ("data", "context") for before in encoder.plan[:index])
        for index, step in enumerate(encoder.plan)
    ]
    ends = [ran[index] - 1 for index, step in enumerate(encoder.plan) if step.op == "save"]
    ends.append(ran[next(index for index, step in enumerate(encoder.plan) if step.op == "load")] - 1)

    def residuals(x: Tensor, t: Tensor, tokens: Tensor, hint: Tensor) -> list[Tensor]:
        outputs: list[Tensor] = []
        hook = encoder.data["image"][0].register_forward_hook(
            lambda module, args, output: output + hint_block(hint)
        )
        encoder(x, t, [Context("text", tokens)], "image", trace=lambda step, h: outputs.append(h))
        hook.remove()
        return [conv(outputs[index]) for conv, index in zip([*zero_convs, middle], ends, strict=True)]

    return residuals


def attach(unet: Diffuser, control: Control) -> None:
    """From now on the residuals of a ControlNet are added: to what the middle gives, and from the last to the
    first to each skip."""
    pending: list[Tensor] = []

    def prepare(module, args) -> None:
        x, t, contexts = args[:3]
        pending.extend(control(x, t, contexts[0].tokens))

    def add_to_skip(module, args) -> tuple:
        h, residual = args[0].clone(), pending.pop()
        h[:, -residual.shape[1] :] += residual
        return (h, *args[1:])

    unet.register_forward_pre_hook(prepare)
    layers = unet.data["image"]
    for before, step in zip(unet.plan, unet.plan[1:], strict=False):
        if before.op == "load":
            layers[step.index].register_forward_pre_hook(add_to_skip)
        elif step.op == "data" and step.stage == "mid" and step.block == 1:
            layers[step.index].register_forward_hook(lambda module, args, output: output + pending.pop())
