"""Memory of one LoRA step on the image flow of Versatile Diffusion at full size, with random weights.

Batch 1, latents 4x64x64, frozen weights and matrix products in bf16, on the CPU:

python benchmarks/lora_memory.py [--checkpointing]
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from vd_core.checkpoints.parts import build
from vd_core.config import VDConfig
from vd_core.sampling.schedule import Schedule
from vd_core.training.diffuser import FlowData, flow_losses
from vd_core.training.lora import Lora, select


def read_peak() -> str:
    """Read the largest resident size of this process so far."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"


def main() -> None:
    """Take one training step, and print what it needed."""
    config = VDConfig()
    diffuser = build(config, ["diffuser.data.image", "diffuser.context.text"]).diffuser.requires_grad_(False)
    diffuser.load_state_dict(
        {key: 0.02 * torch.randn(p.shape, dtype=torch.bfloat16) for key, p in diffuser.state_dict().items()},
        assign=True,
    )
    diffuser.requires_grad_(False)
    lora = Lora(diffuser, select(diffuser, ["context.text:attn"]), rank=8, alpha=8.0)
    frozen, trained = (sum(p.numel() for p in module.parameters()) / 1e6 for module in (diffuser, lora))
    print(f"{frozen:.0f} M frozen and {trained:.2f} M trained parameters: {read_peak()}", flush=True)
    tokens = torch.randn(1, 77, 768)
    flows = FlowData({"image": torch.randn(1, 4, 64, 64)}, {"text": tokens}, {"text": 0 * tokens})
    schedule, batches = Schedule(config.schedule), {("image", "text"): 1}
    losses = flow_losses(flows, schedule, batches, checkpointing="--checkpointing" in sys.argv)
    optimizer, started = torch.optim.AdamW(lora.parameters(), fused=True), time.monotonic()
    with lora.attach(diffuser):
        for _, loss in losses(diffuser, torch.Generator().manual_seed(0)):
            loss.backward()
    optimizer.step()
    print(f"one step of {time.monotonic() - started:.0f} s: {read_peak()}")


if __name__ == "__main__":
    main()
