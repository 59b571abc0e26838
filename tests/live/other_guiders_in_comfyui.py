"""Inside ComfyUI: a guidance per context under guiders and wrappers that other packs may bring.

usage: other_guiders_in_comfyui.py COMFYUI_ARGUMENTS…    (PYTHONPATH: see pack_in_comfyui.py)
Prints as JSON {what: |difference| / |expected value|}.
"""

from __future__ import annotations

import json
import sys

import torch
from pack_in_comfyui import difference, part, start
from torch import Tensor


def main() -> None:
    """Sample by core's own guider, by one for which another predicts, and where a wrapper samples twice."""
    nodes = start(sys.argv[1:])
    from comfy.patcher_extension import WrappersMP
    from comfy.samplers import CFGGuider, calculate_sigmas, process_conds, sampler_object

    host, embedded = part("nodes.host.comfyui.files"), part("vd_core.embedded").MODEL
    context = nodes["VD_TextContext"]().execute(host.load_clip(embedded), "red apple", "")
    guided = nodes["VD_ContextGuidance"]().execute(*context, 0.5)

    class Holder(CFGGuider):
        """Knows no contexts itself: another guider, which it holds, predicts."""

        def predict_noise(self, x, timestep, model_options={}, seed=None):  # noqa: B006, core's own signature
            inner = make_guider(CFGGuider, self.model_patcher)
            inner.inner_model = self.inner_model
            entries = {side: [dict(entry) for entry in found] for side, found in inner.original_conds.items()}
            inner.conds = process_conds(self.inner_model, x, entries, x.device, None, None, seed)
            return inner.predict_noise(x, timestep, model_options, seed)

    def make_guider(kind: type, model) -> CFGGuider:
        guider = kind(model)
        if kind is CFGGuider:
            guider.set_conds(*guided)
        guider.set_cfg(3.0)
        return guider

    def sample(kind: type, model) -> Tensor:
        shape = (1, model.model.sizes.channels, 8, 8)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        sigmas = calculate_sigmas(model.get_model_object("model_sampling"), "normal", 2)
        guider, sampler = make_guider(kind, model), sampler_object("euler")
        return guider.sample(noise, torch.zeros(shape), sampler, sigmas, seed=1, disable_pbar=True)

    def sample_twice(executor, *given, **more) -> Tensor:
        executor(*given, **more)
        return executor(*given, **more)

    model = host.load_flow(embedded, "image", "all", "fp32")
    outside = model.clone()
    own = dict(outside.wrappers[WrappersMP.OUTER_SAMPLE])
    outside.wrappers[WrappersMP.OUTER_SAMPLE] = {"other": [sample_twice], **own}
    with torch.inference_mode():
        expected = sample(CFGGuider, model)
        found = {"held": sample(Holder, model), "twice": sample(CFGGuider, outside)}
    print(json.dumps({what: difference(value, expected) for what, value in found.items()}))


if __name__ == "__main__":
    main()
