"""How each kind of golden case of Versatile Diffusion is run; used by parity.py.

A runner takes a case and yields (name, ours, golden) comparisons; ours None means skipped.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from golden_cases import draws
from golden_cases.app import run_app
from golden_cases.models import DIFFUSER, model_of, vd_config
from vd_core.autoencoders.optimus import edit_latent, filter_logits
from vd_core.autoencoders.sentences import remove_duplicate_phrases
from vd_core.color import match_color
from vd_core.context import Context, join
from vd_core.diffuser.layers import timestep_embedding
from vd_core.diffuser.mixing import layer_mixing
from vd_core.encoders.clip import normalise, weigh_by_masks
from vd_core.encoders.focus import compute_factors, focus
from vd_core.flows import VersatileDiffusion
from vd_core.pictures import resize_and_crop
from vd_core.sampling.guidance import guide
from vd_core.sampling.noise import batch_noise
from vd_core.sampling.options import Sampling
from vd_core.sampling.samplers import run_sampler
from vd_core.sampling.schedule import Schedule
from vd_core.tokenizers import BertTokenizer, Gpt2Tokenizer


def run_schedule(case):
    """Buffers, DDIM subsets, timestep embeddings."""
    schedule, io = Schedule(vd_config(case.config).schedule), case.io
    for name, buffer in schedule.buffers().items():
        yield name, buffer, io[name]
    # Not a part of the schedule, for no sampler uses it: computed here, in float32 as the official code does.
    b = schedule.buffers()
    bound = b["betas"] ** 2 / (2 * b["posterior_variance"] * (1 - b["betas"]) * (1 - b["alphas_cumprod"]))
    yield "lvlb_weights", torch.cat([bound[1:2], bound[1:]]), io["lvlb_weights"]
    for run in case.config["ddim"]:
        steps, prefix = schedule.steps(run["steps"]), run["prefix"]
        alphas = steps.alphas_cumprod.flip(0)
        yield prefix + "timesteps", steps.timesteps.flip(0), io[prefix + "timesteps"].long()
        yield prefix + "alphas", alphas[1:], io[prefix + "alphas"]
        yield prefix + "alphas_prev", alphas[:-1], io[prefix + "alphas_prev"]
        yield prefix + "sigmas", steps.compute_ddim_sigmas(run["eta"]).flip(0), io[prefix + "sigmas"]
        yield prefix + "sqrt_one_minus_alphas", (1 - alphas[1:]).sqrt(), io[prefix + "sqrt_one_minus_alphas"]
    for name in (name for name in io if name.startswith("temb") and name != "temb_t"):
        yield name, *angle_errors(io["temb_t"], io[name])


def angle_errors(t: Tensor, golden: Tensor) -> tuple[Tensor, Tensor]:
    """Our sinusoidal embedding's error as a share of each angle t * f, and zeros to compare it with.

    Not the plain difference: exp() differs in the last bit between processors, and an angle of 981 rad turns
                              that bit into 6e-5.
    """
    width = golden.shape[1]
    ours = timestep_embedding(t, width).double()
    (cos, sin), (golden_cos, golden_sin) = (x.double().chunk(2, dim=1) for x in (ours, golden))
    angles = t.double()[:, None] * torch.exp(
        -math.log(10000) * torch.arange(width // 2).double() / (width // 2)
    )
    errors = torch.atan2(
        sin * golden_cos - cos * golden_sin, cos * golden_cos + sin * golden_sin
    ) / angles.clamp(min=1)
    return errors, torch.zeros_like(errors)


def run_unet(case):
    """One flow, block by block."""
    io, diffuser = case.io, model_of(case, DIFFUSER).diffuser
    trace: list[Tensor] = []

    def record(step, h: Tensor) -> None:
        trace.append(torch.stack([h[0].mean(), h[0].std(), h[0].flatten()[0]]))

    contexts = [Context(case.config["context_type"], io["context"])]
    yield "out", diffuser(io["x"], io["t"], contexts, case.config["x_type"], trace=record), io["out"]
    yield "trace_mean_std_first", torch.stack(trace), io["trace_mean_std_first"]
    yield "time_emb", diffuser.time_embed(io["t"][:1], torch.float32), io["time_emb"]


def run_contexts(case):
    """Several contexts at once: attention mixing, or layer mixing where the case has a numpy seed."""
    io, diffuser = case.io, model_of(case, DIFFUSER).diffuser
    for name, entries in case.config["outputs"].items():
        contexts = []
        for entry in entries:
            if "cat" in entry:
                tokens = join(
                    [Context(entry["type"], io[name], weight=weight) for name, weight in entry["cat"]]
                ).tokens
            else:
                tokens = io[entry["tensor"]]
            contexts.append(Context(entry["type"], tokens, weight=entry["ratio"]))
        mixing = {"mixing": layer_mixing(case.config["numpy_seed"])} if "numpy_seed" in case.config else {}
        yield name, diffuser(io["x"], io["t"], contexts, "image", **mixing), io[name]


def run_ddim(case):
    """Compare the sampling loop, step by step."""
    io, config = case.io, case.config
    model = model_of(case, DIFFUSER)
    schedule = Schedule(model.config.schedule)
    data = config.get("x_type", "image")
    if "contexts_in_order" in config:
        contexts = [
            Context(entry["type"], io[entry["cond"]], io.get(entry["uncond"]), entry["ratio"])
            for entry in config["contexts_in_order"]
        ]
    else:
        contexts = [Context(config["context_type"], io["conditioning"], io["unconditional"])]
    steps = schedule.steps(config["steps"])
    yield "timesteps", steps.timesteps.flip(0), io["timesteps"].long()
    for run in config.get("runs", [{"prefix": "", **config}]):
        yield from run_ddim_once(case, model, schedule, contexts, data, run)


def run_ddim_once(
    case, model: VersatileDiffusion, schedule: Schedule, contexts: list[Context], data: str, run: dict
):
    """One run of a DDIM case."""
    io, prefix = case.io, run["prefix"]
    steps, noise = schedule.steps(case.config["steps"]), batch_noise(run["torch_seed"])
    recorded: dict[str, list[Tensor]] = {
        "x_steps": [],
        "x0_steps": [],
        "model_out_steps": [],
        "noise_steps": [],
    }
    if "x0_forward_timesteps" in run:
        kept = run["x0_forward_timesteps"]
        x0 = io[prefix + "x0"]
        drawn = noise.draw(x0.shape)
        yield prefix + "q_noise", drawn, io[prefix + "q_noise"]
        x, steps = schedule.q_sample(x0, int(steps.timesteps[steps.one_above(kept)]), drawn), steps.last(kept)
        yield prefix + "x_start", x, io[prefix + "x_start"]
    else:
        x = noise.draw(io[prefix + "x_T"].shape)
        yield prefix + "x_T", x, io[prefix + "x_T"]

    def draw() -> Tensor:
        recorded["noise_steps"].append(noise.draw(x.shape))
        return recorded["noise_steps"][-1]

    def record(i: int, total: int, x: Tensor, x0: Tensor) -> None:
        recorded["x_steps"].append(x)
        recorded["x0_steps"].append(x0)

    hook = model.diffuser.register_forward_hook(
        lambda module, inputs, output: recorded["model_out_steps"].append(output)
    )
    denoise = guide(
        model.diffuser, schedule, contexts, data, run.get("guidance_scale", case.config["guidance_scale"])
    )
    out = run_sampler(
        denoise, x, steps, draw, Sampling(eta=run["eta"], temperature=run.get("temperature", 1.0)), record
    )
    hook.remove()
    for name, values in recorded.items():
        if prefix + name in io:
            yield prefix + name, torch.stack(values), io[prefix + name]
    yield prefix + "out", out, io[prefix + "out"]


def run_autokl(case):
    """Compare the image autoencoder."""
    io = case.io
    model = model_of(case, {"image_vae"})
    vae, scale = model.image_vae, vd_config(case.sizes).diffuser.data["image"].latent_scale
    mean, logvar = vae.moments(io["image"])
    noise = batch_noise(case.config["torch_seed"]).draw(mean.shape)
    decoded = io["decode_latent_scaled"] / scale
    yield "mean", mean, io["mean"]
    yield "logvar", logvar, io["logvar"]
    yield "sample_noise", noise, io["sample_noise"]
    yield "latent_scaled", vae.encode(io["image"], noise) * scale, io["latent_scaled"]
    yield "decoded_unclamped", vae.decode_unclamped(decoded), io["decoded_unclamped"]
    yield "decoded", vae.decode(decoded), io["decoded"]


def run_optimus(case):
    """Compare the text autoencoder: encoder, decoder, decoding loop, filters."""
    io, config = case.io, case.config
    vae = model_of(case, {"text_vae"}, "vae.text.").text_vae
    yield "token_ids", vae.pieces(config["texts"]), io["token_ids"].long()
    mean, logvar = vae.posterior(io["token_ids"].long())
    yield "latent_mean", mean, io["latent_mean"]
    yield "latent_logvar", logvar, io["latent_logvar"]
    yield "logits", vae.logits(io["z"], io["decoder_input_ids"].long()), io["logits"]
    greedy = vae.decode_ids(io["z"], torch.Generator(), temperature=0)
    yield (
        "greedy_tokens",
        greedy,
        [[token for token in row if token >= 0] for row in io["greedy_tokens"].tolist()],
    )
    sampled = vae.decode_ids(io["z"], batch_noise(config["sampled_seed"]).generator)
    if draws.as_recorded():
        yield (
            "sampled_tokens",
            sampled,
            [[token for token in row if token >= 0] for row in io["sampled_tokens"].tolist()],
        )
        yield "sampled_sentences", [vae.join_ids(row) for row in sampled], config["sampled_sentences"]
    for entry in config["filters"]:
        kept = filter_logits(io["logits"][0, -1], entry["top_k"], entry["top_p"]) > -torch.inf
        yield entry["tensor"], kept.to(torch.uint8), io[entry["tensor"]]


def run_clip(case):
    """Compare the context encoders."""
    io = case.io
    clip = model_of(case, {"clip_text", "clip_vision"}, "ctx.image.model.").clip
    yield "text_context", clip.encode_ids(io["text_ids"].long()), io["text_context"]
    yield (
        "pixel_values_first",
        normalise(resize_and_crop(io["image"][:1], clip.config.image_size)),
        io["pixel_values_first"],
    )
    yield "image_context", clip.encode_image(io["image"]), io["image_context"]
    yield (
        "vtoken_mask",
        weigh_by_masks(io["mask"], clip.config.image_size, clip.config.patch_size),
        io["vtoken_mask"],
    )
    yield "image_context_masked", clip.encode_image(io["image"], io["mask"]), io["image_context_masked"]
    alone = clip.encode_image(io["image"][:1], io["mask"][:1])
    yield "image_context_masked_first_alone", alone, io["image_context_masked_first_alone"]


def run_focus(case):
    """Focus at every level."""
    for run in case.config["levels"]:
        prefix, level = run["prefix"], run["level"]
        yield prefix + "out", focus(case.io["x"], level), case.io[prefix + "out"]
        yield prefix + "weights20", compute_factors(level), case.io[prefix + "weights20"]


def run_color_adjust(case):
    """Colour adjustment."""
    yield "out", match_color(case.io["image"], case.io["reference"]), case.io["out"]


def run_latent_edit(case):
    """Compare the I2T2I edit of text latents."""
    yield "out", edit_latent(case.io["zt"], case.io["z_negative"], case.io["z_positive"]), case.io["out"]


def run_text_utils(case):
    """Strings: removed repetitions; with the full vocabularies, where they are there, ids and decoded
    sentences."""
    config = case.config
    for before, after in config["remove_duplicate_word"]:
        yield f"remove_duplicate_word {before!r}", remove_duplicate_phrases(before), after
    folder = case.path("vocab_dir") if "vocab_dir" in config else case.root / "_shared" / "vocab_full"
    files = [folder / name for name in ("bert-base-cased-vocab.txt", "gpt2-vocab.json", "gpt2-merges.txt")]
    if not all(path.exists() for path in files):
        yield "rows that need the full vocabularies", None, None
        return
    bert, vocab, merges = (path.read_bytes().decode() for path in files)
    pieces, words = BertTokenizer(bert), Gpt2Tokenizer(vocab, merges)
    for row in config["bert"]:
        yield f"bert {row['text'][:20]!r}", pieces([row["text"]])[0].tolist(), row["lowered_ids"]
    yield "gpt2_special", {"<PAD>": words.pad, "<BOS>": words.bos, "<EOS>": words.eos}, config["gpt2_special"]
    for row in config["gpt2"]:
        decoded = words.decode(row["ids"])
        yield f"gpt2 {row['decoded'][:20]!r}", decoded, row["decoded"]
        yield f"sentence {row['sentence'][:20]!r}", " ".join(decoded.split()[1:-1]), row["sentence"]


RUNNERS = {
    "app_": run_app,
    "schedule": run_schedule,
    "unet_": run_unet,
    "dual_context": run_contexts,
    "multi_context": run_contexts,
    "layer_mixing": run_contexts,
    "ddim_": run_ddim,
    "autokl": run_autokl,
    "optimus": run_optimus,
    "clip_context": run_clip,
    "focus": run_focus,
    "color_adjust": run_color_adjust,
    "latent_edit": run_latent_edit,
    "text_utils": run_text_utils,
}
