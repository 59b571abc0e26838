"""Inside ComfyUI: guidance options and negatives on the embedded model, against the standalone host and
against core's own nodes.

usage: guidance_in_comfyui.py COMFYUI_ARGUMENTS…    (PYTHONPATH: see pack_in_comfyui.py)
Prints as JSON {"differences": {comparison: |difference| / |expected value|}, "calls": {what: rows that the
network got in each call}}.
"""

from __future__ import annotations

import json
import sys

import torch
from pack_in_comfyui import difference, part, sample_alone, start, values
from torch import Tensor

from runner.pack import ROOT, load_pack

NEUTRAL = {"start": 0.0, "end": 1.0, "rescale": 0.0, "threshold": "none", "percentile": 0.995, "bound": 4.0}
SETTINGS = {
    "neutral": {},
    "interval": {"start": 0.3, "end": 0.7},
    "rescale": {"rescale": 0.7},
    "dynamic": {"threshold": "dynamic", "percentile": 0.95},
    "static": {"threshold": "static", "bound": 2.0},
    "all": {"start": 0.2, "end": 0.8, "rescale": 0.4, "threshold": "dynamic"},
}
SHAPES = {"image": (2, 16, 8, 8), "text": (2, 64, 1, 1)}


class Comparison:
    """The models of both hosts, and what was found."""

    def __init__(self, nodes: dict[str, type]):
        from comfy_extras import nodes_custom_sampler, nodes_model_advanced, nodes_perpneg

        import nodes as core

        self.core, self.custom, self.advanced, self.perpneg = (
            core,
            nodes_custom_sampler,
            nodes_model_advanced,
            nodes_perpneg,
        )
        self.nodes = nodes
        self.test_nodes = load_pack(
            ROOT / "tests" / "live" / "custom_nodes" / "vd_live_nodes", "vd_live_nodes"
        ).NODE_CLASS_MAPPINGS
        host, self.standalone, embedded = (
            part("nodes.host.comfyui.files"),
            part("nodes.host.standalone"),
            part("vd_core.embedded").MODEL,
        )
        self.ours = {data: host.load_flow(embedded, data, "all", "fp32") for data in SHAPES}
        self.theirs = {data: self.standalone.load_flow(embedded, data, "all", "default") for data in SHAPES}
        clip, vision = host.load_clip(embedded), host.load_clip_vision(embedded)
        pictures = torch.rand((2, 64, 64, 3), generator=torch.Generator().manual_seed(3)).unbind()

        def text(words: str, negative: str = "") -> tuple:
            return self.nodes["VD_TextContext"]().execute(clip, words, negative)

        def image(number: int, unconditional: str = "zeros") -> tuple:
            return self.nodes["VD_ImageContext"]().execute(
                vision, pictures[number][None], 0.5, 1.0, unconditional
            )

        self.apple, self.seen = text("red apple, 3d style"), image(0)
        self.pairs = {
            "text": text("red apple, 3d style", "yellow star, flat style"),
            "picture": (self.seen[0], image(1)[0]),
            "zeros": (self.apple[0], core.ConditioningZeroOut().zero_out(self.apple[0])[0]),
            "black": image(0, "black"),
            "grey": image(0, "grey"),
        }
        self.differences: dict[str, float] = {}
        self.calls: dict[str, list[int]] = {}

    def compare(self, name: str, ours: Tensor, theirs: Tensor) -> None:
        """Note one difference."""
        self.differences[name] = difference(ours, theirs)

    def latent(self, data: str = "image") -> dict:
        """An empty LATENT."""
        return {"samples": torch.zeros(SHAPES[data])}

    def options(self, model, **settings):
        """The MODEL after the node."""
        return self.nodes["VD_Guidance"]().execute(model, **{**NEUTRAL, **settings})[0]

    def multi_flow(
        self, model, pair, data: str = "image", cfg: float = 6.0, sampler: str = "dpmpp_2m"
    ) -> Tensor:
        """The multi-flow sampler here."""
        return self.nodes["VD_Sampler"]().execute(
            model, *pair, self.latent(data), 5, 8, cfg, sampler, 0.0, 0.0, "per sample"
        )[0]["samples"]

    def alone(self, pair, data: str = "image", cfg: float = 6.0, **settings) -> Tensor:
        """The multi-flow sampler without ComfyUI."""
        options = part("vd_core.sampling.corrections").GuidanceOptions(**{**NEUTRAL, **settings})
        model = self.standalone.with_guidance(self.theirs[data], options)
        return sample_alone(model, *pair, self.latent(data), 5, 8, cfg, "dpmpp_2m", 0.0, 0.0, "per sample")[
            "samples"
        ]

    def ksampler(
        self, model, pair, cfg: float = 6.0, sampler: str = "dpmpp_2m", data: str = "image"
    ) -> Tensor:
        """Stock KSampler."""
        return self.core.KSampler().sample(
            model, 5, 8, cfg, sampler, "normal", *pair, self.latent(data), 1.0
        )[0]["samples"]

    def hosts(self) -> None:
        """Both hosts with the same settings."""
        guided = self.nodes["VD_ContextGuidance"]().execute
        blend = self.nodes["VD_Blend"]().execute(*guided(*self.apple, 0.5), *self.seen, 0.4)
        for data in SHAPES:
            for name, settings in SETTINGS.items():
                for label, pair in (("one context", self.apple), ("two scales", blend)):
                    ours = self.multi_flow(self.options(self.ours[data], **settings), pair, data)
                    self.compare(f"hosts {data} {label} {name}", ours, self.alone(pair, data, **settings))
            for cfg in (0.0, 1.0):
                ours = self.multi_flow(
                    self.options(self.ours[data], **SETTINGS["all"]), self.apple, data, cfg
                )
                self.compare(
                    f"hosts {data} cfg {cfg}", ours, self.alone(self.apple, data, cfg, **SETTINGS["all"])
                )

    def negatives(self) -> None:
        """Every kind of negative in both samplers; each must do something that the others do not."""
        for data in SHAPES:
            drawn: dict[str, Tensor] = {}
            for name, pair in self.pairs.items():
                ours = self.multi_flow(self.ours[data], pair, data)
                self.compare(f"negative {data} {name}", ours, self.alone(pair, data))
                self.differences |= {
                    f"{data}: {name} or {other}": difference(ours, one) for other, one in drawn.items()
                }
                drawn[name] = ours
                sampled = self.ksampler(self.ours[data], pair, data=data)
                plain = self.ksampler(self.ours[data], pair, 1.0, data=data)
                self.differences[f"{data}: {name} in KSampler"] = difference(sampled, plain)

    def stock(self) -> None:
        """Against core's own nodes, on this pack's model, on Stable Diffusion 1's and on a flow-matching
        one."""
        stable = values(self.test_nodes["VDLive_StockModel"])[0]
        tokens = 20 * torch.randn((1, 5, 32), generator=torch.Generator().manual_seed(4))
        models = {
            "vd": (self.ours["image"], self.apple),
            "stable diffusion": (stable, ([[tokens, {}]], [[0 * tokens, {}]])),
        }
        for name, (model, pair) in models.items():
            plain = self.ksampler(model, pair)
            self.compare(f"neutral {name}", self.ksampler(self.options(model), pair), plain)
            theirs = self.ksampler(values(self.advanced.RescaleCFG, model, 0.7)[0], pair)
            self.compare(f"RescaleCFG {name}", self.ksampler(self.options(model, rescale=0.7), pair), theirs)
            self.differences[f"effect {name}"] = difference(theirs, plain)
            once = self.ksampler(self.options(model, threshold="static", bound=1.0), pair)
            twice = self.options(self.options(model, **SETTINGS["all"]), threshold="static", bound=1.0)
            self.compare(f"the last one counts {name}", self.ksampler(twice, pair), once)
            scale = model.model.latent_format.scale_factor
            self.differences[f"bound {name}"] = float((once * scale).abs().max())

    def count(self) -> None:
        """Calls of the network per step."""
        model, calls = values(
            self.test_nodes["VDLive_CountCalls"], self.options(self.ours["image"], **SETTINGS["interval"])
        )
        runs = {
            f"KSampler {name}": lambda name=name: self.ksampler(model, self.apple, sampler=name)
            for name in ("euler", "heun", "dpmpp_2m")
        }
        runs["VD_Sampler"] = lambda: self.multi_flow(model, self.apple, sampler="ddim")
        guiders = {
            "DualCFGGuider": (
                self.custom.DualCFGGuider,
                model,
                self.apple[0],
                self.seen[0],
                self.apple[1],
                3.0,
                3.0,
                "regular",
            ),
            "PerpNegGuider": (self.perpneg.PerpNegGuider, model, *self.apple, self.seen[1], 3.0, 1.0),
            "CFGGuider": (self.custom.CFGGuider, model, *self.apple, 3.0),
        }
        noise = values(self.custom.RandomNoise, 5)[0]
        sigmas = values(self.custom.BasicScheduler, model, "normal", 8, 1.0)[0]
        euler = values(self.custom.KSamplerSelect, "euler")[0]
        for name, (node, *arguments) in guiders.items():
            guider = values(node, *arguments)[0]
            runs[name] = lambda guider=guider: values(
                self.custom.SamplerCustomAdvanced, noise, guider, euler, sigmas, self.latent()
            )
        for name, run in runs.items():
            calls.clear()
            run()
            self.calls[name] = [rows // SHAPES["image"][0] for rows in calls]


if __name__ == "__main__":
    nodes = start(sys.argv[1:])
    with torch.inference_mode():
        found = Comparison(nodes)
        for check in (found.hosts, found.negatives, found.stock, found.count):
            check()
    print(json.dumps({"differences": found.differences, "calls": found.calls}))
