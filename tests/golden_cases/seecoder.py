"""How each kind of golden case of SeeCoder is run; used by parity.py.

A runner takes a case and yields (name, ours, golden) comparisons. Inputs that a case does not store are made
by the recipe of its set.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from golden_cases.pfd import run_pfd
from seecoder.checkpoints import fill, from_tensors
from seecoder.config import DecoderConfig, QueryConfig, SeeCoderConfig, SwinConfig
from seecoder.decoder import Decoder
from seecoder.positions import PositionMLP
from seecoder.query_transformer import QueryTransformer
from seecoder.swin import Swin
from vd_core.checkpoints.read import read


def swin_config(sizes: dict) -> SwinConfig:
    """Ours from the official sizes."""
    return SwinConfig(
        sizes["embed_dim"], tuple(sizes["depths"]), tuple(sizes["num_heads"]), sizes["window_size"]
    )


def decoder_config(sizes: dict) -> DecoderConfig:
    """Ours from the official sizes."""
    levels = {name: width for name, width in sizes["inchannels"].items() if name in sizes["trans_input_tags"]}
    finer = {name: width for name, width in sizes["inchannels"].items() if name not in levels}
    return DecoderConfig(
        levels, finer, sizes["trans_dim"], sizes["trans_num_layers"], sizes["trans_feedforward_dim"]
    )


def query_config(sizes: dict) -> QueryConfig:
    """Ours from the official sizes; the official position features always have 20 frequencies."""
    names = "nheads", "num_layers", "feedforward_dim", "num_feature_levels"
    positions, enforced = 20 if sizes["with_fea2d_pos"] else 0, sizes.get("enforce_input_project", False)
    project = enforced and sizes["in_channels"] == sizes["hidden_dim"]
    rest = (*(sizes[name] for name in names), positions, project)
    return QueryConfig(sizes["in_channels"], sizes["hidden_dim"], *sizes["num_queries"], *rest)


def weights(case) -> dict[str, Tensor]:
    """Return the case's weights under released names: its file, or made by the recipe from the shapes."""
    entry = case.config["weights"]
    if entry["file"]:
        return dict(read(case.folder / entry["file"]).weights)
    made = case.recipe.fill(case.config["param_shapes"], case.config["seed"])
    return {entry["key_prefix"] + name: tensor for name, tensor in made.items()}


def part(case, module: nn.Module, name: str) -> nn.Module:
    """One part with the case's weights, which lie at `name` in a whole SeeCoder."""
    fill(module, {name + key: tensor for key, tensor in weights(case).items()}, str(case.folder), prefix=name)
    return module


def images(case):
    """Yield number and images of every input."""
    for index, entry in enumerate(case.config["inputs"]):
        stored = case.io.get(f"in.{index}")
        yield index, case.recipe.image(*entry) if stored is None else stored


def run_swin(case):
    """Compare the backbone at any size; inside, block by block, where the case has a trace."""
    swin = part(case, Swin(swin_config(case.config["config"])), "imencoder.")
    for index, x in images(case):
        trace = traced(swin)
        for level, ours in swin(x).items():
            yield f"out.{index}.{level}", ours, case.io[f"out.{index}.{level}"]
        for name, golden in case.io.items():
            if name.startswith(f"trace.{index}."):
                yield name, trace[name.split(".", 2)[2]].reshape(golden.shape), golden


def traced(swin: Swin) -> dict[str, Tensor]:
    """What the modules of a backbone get and give in the next call, under the names of the golden traces, [B,
    n, C].
    """
    trace: dict[str, Tensor] = {}

    def record(name: str, module: nn.Module, args: tuple, output: Tensor) -> None:
        if name == "patch_embed":
            trace[name] = output.permute(0, 3, 1, 2)
        elif name.endswith("block1"):
            x, mask = args
            trace.update(
                {f"{name}.in": x.flatten(1, 2), f"{name}.mask": mask, f"{name}.out": output.flatten(1, 2)}
            )
        else:
            trace[name] = output.flatten(1, 2)

    swin.patch_embed.register_forward_hook(partial(record, "patch_embed"))
    for number, stage in enumerate(swin.layers):
        if len(stage.blocks) > 1:
            stage.blocks[1].register_forward_hook(partial(record, f"stage{number}.block1"))
        stage.blocks[-1].register_forward_hook(partial(record, f"stage{number}.tokens"))
        stage.downsample.register_forward_hook(partial(record, f"stage{number}.down"))
    return trace


def features(case, widths: dict[str, int]):
    """Yield number and maps by name of every input of a part behind the backbone:

    stored ones, else random ones of the given widths.
    """
    for index, (batch, sizes, seed) in enumerate(case.config["inputs"]):
        maps = {}
        for k, ((name, width), size) in enumerate(zip(widths.items(), sizes, strict=True)):
            stored = case.io.get(f"in.{index}.{name}")
            maps[name] = case.recipe.feature(batch, width, *size, seed + k) if stored is None else stored
        yield index, maps


def run_decoder(case):
    """Compare the decoder, each image of a batch as if alone."""
    decoder = part(case, Decoder(decoder_config(case.config["config"])), "imdecoder.")
    levels = dict(sorted((decoder.config.levels | decoder.config.finer).items()))
    for index, maps in features(case, levels):
        for level, ours in decoder(maps).items():
            yield f"out.{index}.{level}", ours, case.io[f"out.{index}.{level}"]


def run_query_transformer(case):
    """Compare the query transformer, with and without positions."""
    transformer = part(case, QueryTransformer(query_config(case.config["config"])), "qtransformer.")
    widths = {str(level): transformer.config.inputs for level in range(transformer.config.levels)}
    for index, maps in features(case, widths):
        yield f"out.{index}", transformer(list(maps.values())), case.io[f"out.{index}"]


def run_positions(case):
    """Compare the positions of SeeCoder-PA, in float32 and in float16."""
    sizes = case.config["config"]
    name = "qtransformer.pe_layer."
    positions = part(case, PositionMLP(sizes["freq_num"], sizes["out_channel"]), name)
    for kind, dtype in (("out", torch.float32), ("out_fp16", torch.float16)):
        positions.to(dtype)
        for index, (height, width) in enumerate(case.config["sizes"]):
            if (golden := case.io.get(f"{kind}.{index}")) is not None:
                ours = positions(height, width, torch.empty(0, dtype=dtype))
                yield f"{kind}.{index}", ours.T.reshape(golden.shape), golden


def run_seecoder(case):
    """Compare the whole encoder from a checkpoint, each image of a batch as if alone."""
    config = SeeCoderConfig(*(read_sizes(case.config[name]) for name, read_sizes in PARTS.items()))
    model = from_tensors(weights(case), str(case.folder), config=config)
    for index, x in images(case):
        trace = {}
        hooks = [
            model.imencoder.register_forward_hook(
                lambda module, args, output, trace=trace: trace.update(enc=output)
            ),
            model.imdecoder.register_forward_hook(
                lambda module, args, output, trace=trace: trace.update(dec=output)
            ),
        ]
        yield f"out.{index}", model(x), case.io[f"out.{index}"]
        for name, golden in case.io.items():
            if name.startswith(f"trace.{index}."):
                stage, level = name.split(".")[2:]
                yield name, trace[stage][level], golden
        for hook in hooks:
            hook.remove()


PARTS = {"swin": swin_config, "decoder": decoder_config, "query_transformer": query_config}

RUNNERS = {
    "swin": run_swin,
    "decoder": run_decoder,
    "query_transformer": run_query_transformer,
    "ppe_mlp": run_positions,
    "seecoder": run_seecoder,
    "pfd_with_control": run_pfd,
}
