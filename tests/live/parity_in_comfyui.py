"""Inside ComfyUI: how far the pack's MODELs, samplers and encoders are from recorded official outputs and
from vd_core.

usage: parity_in_comfyui.py MODEL GOLDEN COMFYUI_ARGUMENTS…    (PYTHONPATH: see pack_in_comfyui.py)
MODEL: the golden weights as a file of our own layout. Prints {comparison: |difference| / |expected value|} as
JSON.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import app_nodes
import latents_in_comfyui
import parity
import torch
from pack_in_comfyui import difference, part, sample_alone, start, values
from safetensors.torch import load_file
from torch import Tensor

MODEL, GOLDEN = Path(sys.argv[1]), Path(sys.argv[2])
FLOWS = ("image", "text")
PARTS = [
    *(f"diffuser.{group}.{kind}" for group in ("data", "context") for kind in FLOWS),
    "clip_text",
    "clip_vision",
    "image_vae",
]


def case(name: str) -> tuple[dict, dict[str, Tensor]]:
    """The config and the tensors of a golden case."""
    return json.loads((GOLDEN / name / "config.json").read_text(encoding="utf-8")), load_file(
        GOLDEN / name / "io.safetensors"
    )


class Parity:
    """The models, and the differences found so far."""

    def __init__(self, nodes: dict[str, type]):
        self.nodes = nodes
        self.core = part("vd_core.checkpoints.load").load(MODEL, parts=PARTS)
        self.schedule = part("vd_core.sampling.schedule").Schedule(self.core.config.schedule)
        self.differences: dict[str, float] = {}
        host = part("nodes.host.comfyui.files")
        self.models = {data: host.load_flow(MODEL, data, "all", "fp32") for data in FLOWS}

    def compare(self, name: str, ours: Tensor, golden: Tensor) -> None:
        """Note one difference."""
        assert ours.shape == golden.shape, f"{name}: {list(ours.shape)} and {list(golden.shape)}"
        self.differences[name] = difference(ours, golden)

    def networks(self) -> None:
        """One evaluation of every flow."""
        cases = [(f"unet_{data}_from_{kind}", data, kind) for data in FLOWS for kind in FLOWS]
        for name, data, kind in cases:
            _, io = case(name)
            self.network(name, data, io, [(kind, io["context"], 1.0)], io["out"])
        for name in ("dual_context", "multi_context"):
            config, io = case(name)
            for output, entries in config["outputs"].items():
                if all("tensor" in entry for entry in entries):
                    total = sum(entry["ratio"] for entry in entries)
                    contexts = [
                        (entry["type"], io[entry["tensor"]], entry["ratio"] / total) for entry in entries
                    ]
                    self.network(f"{name}.{output}", "image", io, contexts, io[output])

    def network(self, name: str, data: str, io: dict, contexts: list, golden: Tensor) -> None:
        """MODEL's network against the official output and vd_core's."""
        layout = tuple(
            part("nodes.conditioning").Part(kind, tokens.shape[1], ratio) for kind, tokens, ratio in contexts
        )
        x = io["x"].reshape(*io["x"].shape, 1, 1) if data == "text" else io["x"]
        network = self.models[data].model.diffusion_model
        ours = network(
            x,
            io["t"].float(),
            context=torch.cat([tokens for _, tokens, _ in contexts], dim=1),
            vd_layout=layout,
        )
        ours = ours.reshape(io["x"].shape)
        self.compare(f"{name}: official", ours, golden)
        context = part("vd_core.context").Context
        given = [context(kind, tokens, weight=ratio) for kind, tokens, ratio in contexts]
        self.compare(f"{name}: vd_core", ours, self.core.diffuser(io["x"], io["t"], given, data))

    def conditioning(self, config: dict, io: dict) -> tuple[list, list]:
        """positive and negative of a DDIM case."""
        context = part("vd_core.context").Context
        if "contexts_in_order" not in config:
            return part("nodes.conditioning").to_conditioning(
                [context(config["context_type"], io["conditioning"], io["unconditional"])]
            )
        entries = config["contexts_in_order"]
        blend = [
            context(entry["type"], io[entry["cond"]], io.get(entry["uncond"]), entry["ratio"])
            for entry in entries
        ]
        return part("nodes.conditioning").to_conditioning(blend)

    def loops(self) -> None:
        """VD_OfficialDDIM in SamplerCustom and SamplerCustomAdvanced, and VD_Sampler, against the official
        loop."""
        for name in ("ddim_image", "ddim_text", "ddim_multicontext"):
            config, io = case(name)
            data = config.get("x_type", "image")
            positive, negative = self.conditioning(config, io)
            for run in config.get("runs", [{"prefix": "", **config}]):
                golden, prefix = io[run["prefix"] + "out"], f"{name}.{run['prefix']}"
                if run.get("temperature", 1.0) != 1.0:
                    continue  # none of the nodes has a temperature
                start = io.get(run["prefix"] + "x0", torch.zeros_like(golden)) / self.scale(data)
                latent = {"samples": start.reshape(*start.shape, 1, 1) if data == "text" else start}
                settings = (
                    config["steps"],
                    run["eta"],
                    run.get("guidance_scale", config["guidance_scale"]),
                    run["torch_seed"],
                )
                fidelity = 1 - run.get("x0_forward_timesteps", config["steps"]) / config["steps"]
                self.multi_flow(prefix, data, positive, negative, latent, settings, fidelity, golden)
                if fidelity == 0:
                    self.custom(prefix, data, positive, negative, latent, settings, golden)

    def custom(
        self, prefix: str, data: str, positive, negative, latent: dict, settings: tuple, golden: Tensor
    ) -> None:
        """The official DDIM through core's nodes."""
        from comfy_extras import nodes_custom_sampler as stock

        steps, eta, cfg, seed = settings
        sampler, sigmas = self.nodes["VD_OfficialDDIM"]().execute(self.models[data], steps, eta)
        result = values(
            stock.SamplerCustom,
            self.models[data],
            True,
            seed,
            cfg,
            positive,
            negative,
            sampler,
            sigmas,
            latent,
        )[0]
        self.compare(f"{prefix}SamplerCustom: official", self.scaled(data, result["samples"], golden), golden)
        guider = values(stock.CFGGuider, self.models[data], positive, negative, cfg)[0]
        noise = values(stock.RandomNoise, seed)[0]
        result = values(stock.SamplerCustomAdvanced, noise, guider, sampler, sigmas, latent)[0]
        self.compare(
            f"{prefix}SamplerCustomAdvanced: official", self.scaled(data, result["samples"], golden), golden
        )

    def multi_flow(
        self, prefix, data, positive, negative, latent: dict, settings: tuple, fidelity: float, golden: Tensor
    ) -> None:
        """The multi-flow sampler, which adds the official 100 to its seed."""
        steps, eta, cfg, seed = settings
        arguments = (positive, negative, latent, seed - 100, steps, cfg, "ddim", eta, fidelity)
        ours = self.nodes["VD_Sampler"]().execute(self.models[data], *arguments, "official")[0]["samples"]
        self.compare(f"{prefix}VD_Sampler: official", self.scaled(data, ours, golden), golden)

    def hosts(self) -> None:
        """The multi-flow sampler here and without ComfyUI, with the embedded model."""
        standalone, embedded = part("nodes.host.standalone"), part("vd_core.embedded").MODEL
        host = part("nodes.host.comfyui.files")
        clip = host.load_clip(embedded)
        encode = self.nodes["VD_TextContext"]().execute
        positive, negative = encode(clip, "red apple, 3d style", "yellow")
        for data, shape in (("image", (2, 16, 8, 8)), ("text", (2, 64, 1, 1))):
            ours, theirs = (
                host.load_flow(embedded, data, "all", "fp32"),
                standalone.load_flow(embedded, data, "all", "default"),
            )
            latent = {"samples": torch.randn(shape, generator=torch.Generator().manual_seed(7))}
            for sampler in part("vd_core.sampling.samplers").SAMPLERS:
                for fidelity in (0.0, 0.5):
                    arguments = (positive, negative, latent, 5, 10, 2.0, sampler, 0.5, fidelity)
                    here = self.nodes["VD_Sampler"]().execute(ours, *arguments, "per sample")[0]["samples"]
                    there = sample_alone(theirs, *arguments, "per sample")["samples"]
                    self.compare(f"VD_Sampler {data} {sampler} fidelity {fidelity}: standalone", here, there)
            for name, pair in self.blends(encode, clip, data).items():
                arguments = (*pair, latent, 5, 6, 2.0, "dpmpp_2m", 0.0, 0.0)
                here = self.nodes["VD_Sampler"]().execute(ours, *arguments, "per sample")[0]["samples"]
                self.compare(
                    f"blend {data} {name}: standalone",
                    here,
                    sample_alone(theirs, *arguments, "per sample")["samples"],
                )
            latents_in_comfyui.compare(self, ours, theirs, (positive, negative), latent, data)
        tokens = standalone.load_clip(embedded).encode_text(["red apple, 3d style", "yellow"])
        self.compare("VD_TextContext: standalone", torch.cat([positive[0][0], negative[0][0]]), tokens)

    def steering(self) -> None:
        """Steering nodes here, against the same energies without ComfyUI, with the embedded model."""
        standalone, host, embedded = (
            part("nodes.host.standalone"),
            part("nodes.host.comfyui.files"),
            part("vd_core.embedded").MODEL,
        )
        energies, energy = part("vd_core.energies"), part("vd_core.sampling.energy").Energy
        picture, text = (
            torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0)),
            "owl, blob style",
        )
        mask = torch.zeros(1, 64, 64)
        mask[..., :32] = 1
        clip, clip_vision, vae = (
            host.load_clip(embedded),
            host.load_clip_vision(embedded),
            host.load_image_vae(embedded),
        )
        model, contexts = (
            host.load_flow(embedded, "image", "all", "fp32"),
            self.nodes["VD_TextContext"]().execute(clip, "rocket", ""),
        )
        eyes, decoder = (load(embedded) for load in (standalone.load_clip_vision, standalone.load_image_vae))
        words, latents = standalone.load_clip(embedded).embed_text([text]), decoder.encode(picture)
        measures = {
            "VD_SteerByClip": lambda z, a: energies.embedding_distance(
                eyes.embed_image(standalone.decode(decoder, z)), words
            ),
            "VD_SteerByColor": lambda z, a: energies.color_distance(
                standalone.decode(decoder, z), picture.movedim(-1, 1)
            ),
            "VD_SteerToPicture": lambda z, a: energies.latent_distance(z, latents, mask[:, None]),
        }
        inputs = {
            "VD_SteerByClip": {"clip_vision": clip_vision, "clip": clip, "text": text},
            "VD_SteerByColor": {"image": picture},
            "VD_SteerToPicture": {"image": picture, "mask": mask},
        }
        flow = standalone.load_flow(embedded, "image", "all", "default")
        for name, measure in measures.items():
            for exact in (True, False):
                gradient = "exact" if exact else "fast"
                ours = call(
                    self.nodes[name],
                    model=model,
                    vae=vae,
                    strength=0.2,
                    start=0.1,
                    end=0.9,
                    gradient=gradient,
                    **inputs[name],
                )[0]
                theirs = standalone.steer(flow, energy(measure, 0.2, 0.1, 0.9, exact=exact), [])
                arguments = (
                    *contexts,
                    {"samples": torch.zeros(2, 16, 8, 8)},
                    5,
                    6,
                    2.0,
                    "dpmpp_2m",
                    0.0,
                    0.0,
                    "per sample",
                )
                here = self.nodes["VD_Sampler"]().execute(ours, *arguments)[0]["samples"]
                self.compare(
                    f"{name} {gradient}: standalone", here, sample_alone(theirs, *arguments)["samples"]
                )

    def blends(self, encode, clip, data: str) -> dict[str, tuple]:
        """Blends in which contexts act in places, at times and as strongly as they should, as positive and
        negative."""
        places = (
            ({"width": 0.5}, {"x": 0.25, "width": 0.75, "start": 0.4})
            if data == "image"
            else ({"end": 0.5}, {"start": 0.5})
        )
        region, guidance = (
            lambda pair, values: self.nodes["VD_Region"]().execute(*pair, **{**WHOLE, **values}),
            lambda pair, value: self.nodes["VD_ContextGuidance"]().execute(*pair, value),
        )
        first, second = (
            encode(clip, "red apple, 3d style", "(yellow:2)"),
            encode(clip, "(star:0.5), flat style", ""),
        )
        sides = {
            "regions": [region(pair, place) for pair, place in zip((first, second), places, strict=True)],
            "guidance": [guidance(first, 0.5), guidance(second, 2.0)],
            "leading 1": [first, guidance(second, 2.0)],
            "trailing 0": [guidance(first, 2.0), guidance(second, 0.0)],
            "weights": [first, second],
        }
        return {
            name: self.nodes["VD_Blend"]().execute(*pairs[0], *pairs[1], 0.4) for name, pairs in sides.items()
        }

    def scale(self, data: str) -> float:
        """What the official latents are scaled by."""
        return self.core.config.diffuser.data[data].latent_scale

    def scaled(self, data: str, latent: Tensor, golden: Tensor) -> Tensor:
        """A LATENT in the official space and shape."""
        return (latent * self.scale(data)).reshape(golden.shape)

    def encoders(self) -> None:
        """CLIP, CLIP_VISION and VAE."""
        _, io = case("clip_context")
        host = part("nodes.host.comfyui.files")
        clip, vision = host.load_clip(MODEL), host.load_clip_vision(MODEL)
        encode = part("nodes.host.comfyui.clip")
        # The case's prompts were tokenized with a made-up vocabulary, so their ids are taken as given.
        ids = {
            str(row): [[(int(token), 1.0) for token in tokens]] for row, tokens in enumerate(io["text_ids"])
        }
        clip.tokenize = lambda text: {"l": ids[text or "0"]}
        tokens = encode.encode_text(clip, list(ids))
        self.compare("CLIP: official", tokens, io["text_context"])
        self.compare("CLIP: vd_core", tokens, self.core.clip.encode_ids(io["text_ids"].long()))
        for suffix, masks in (("", None), ("_masked", io["mask"])):
            tokens = encode.encode_image(vision, io["image"], masks)
            self.compare(f"CLIP_VISION{suffix}: official", tokens, io[f"image_context{suffix}"])
            self.compare(
                f"CLIP_VISION{suffix}: vd_core", tokens, self.core.clip.encode_image(io["image"], masks)
            )
        _, io = case("autokl")
        vae = host.load_image_vae(MODEL)
        latent = vae.encode(io["image"].movedim(1, -1))
        self.compare("VAE encode: official", latent, io["mean"])
        self.compare("VAE encode: vd_core", latent, self.core.image_vae.encode(io["image"]))
        latent = io["decode_latent_scaled"] / self.scale("image")
        pictures = vae.decode(latent).movedim(-1, 1)
        self.compare("VAE decode: official", pictures, io["decoded"])
        self.compare("VAE decode: vd_core", pictures, self.core.image_vae.decode(latent))

    def apps(self) -> None:
        """The official app's methods through nodes."""
        import folder_paths

        import nodes as core

        host, folder = part("nodes.host.comfyui.files"), Path(folder_paths.get_input_directory())
        folder.mkdir(parents=True, exist_ok=True)
        read = parity.Case(GOLDEN / "clip_context")
        ids = dict(zip(read.config["texts"], read.io["text_ids"].tolist(), strict=True))
        models = {f"{data}_model": model for data, model in self.models.items()} | {
            "vae": host.load_image_vae(MODEL),
            "text_vae": host.load_text_vae(MODEL),
            "clip": host.load_clip(MODEL),
            "clip_vision": host.load_clip_vision(MODEL),
        }
        # Words alone are only counted; the sentence about those that a CLIP does not know is no part of the
        # cases.
        models["clip"].tokenize = lambda text: {"l": [[(token, 1.0) for token in ids.get(text, [0, 0, 0])]]}
        called = {
            name: partial(call, cls) for name, cls in {**self.nodes, "VAEDecode": core.VAEDecode}.items()
        }
        for case in parity.find_cases([str(GOLDEN)]):
            if case.name.startswith("app_"):
                for name, ours, golden in app_nodes.run_app(case, called, models, folder, ids):
                    if isinstance(golden, str):
                        ours, golden = torch.tensor([float(ours == golden)]), torch.ones(1)
                    self.compare(f"{case.name}.{name}: official", ours, golden)


def call(cls, **inputs):
    """What a node gives; left out inputs have their defaults."""
    schema = cls.INPUT_TYPES()["required"]
    defaults = {
        name: spec[1]["default"] for name, spec in schema.items() if len(spec) > 1 and "default" in spec[1]
    }
    return getattr(cls(), cls.FUNCTION)(**{**defaults, **inputs})


WHOLE = {"x": 0.0, "y": 0.0, "width": 1.0, "height": 1.0, "start": 0.0, "end": 1.0}  # of a region


def official_attention(q: Tensor, k: Tensor, v: Tensor, bias: None) -> Tensor:
    """softmax(q kᵀ / √d) v, as the official code and core's split attention compute it: [B, heads, n, d]
    each."""
    rows = [x.flatten(0, 1) for x in (q, k, v)]
    weights = (torch.einsum("bid,bjd->bij", rows[0], rows[1]) * q.shape[-1] ** -0.5).softmax(dim=-1)
    return torch.einsum("bij,bjd->bid", weights, rows[2]).reshape(q.shape)


if __name__ == "__main__":
    nodes = start(sys.argv[3:])
    from comfy.ldm.modules import attention

    with torch.inference_mode():
        found = Parity(nodes)
        checks = [found.networks, found.loops, found.encoders, found.apps, found.hosts, found.steering]
        if attention.optimized_attention is attention.attention_split:
            checks = checks[:-2]  # without ComfyUI it is always torch's own
            functions = vars(torch.nn.functional) | {"scaled_dot_product_attention": official_attention}
            part("vd_core.diffuser.layers").F = SimpleNamespace(**functions)
        for compare in checks:
            compare()
    print(json.dumps(found.differences))
