"""Training of the small model that ships with the project, stage by stage from data to one file."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from ..autoencoders.image_kl import AutoencoderKL
from ..autoencoders.optimus import Optimus
from ..checkpoints.vocabularies import to_tensors
from ..checkpoints.write import save_model
from ..config import VDConfig
from ..diffuser.model import Diffuser
from ..encoders.clip import Clip
from ..flows import VersatileDiffusion, make_image_context
from ..sampling.schedule import Schedule
from ..tokenizers import ClipTokenizer
from . import sheets, vocabularies
from .adversarial_decoder import train_decoder
from .captioning import captioning_losses
from .clip import ContrastiveClip, Texts, contrastive_losses, distort, draw_in_ink, recolour
from .dataset import CaptionedPictures, draw_partners, write_style_caption
from .diffuser import FlowData, flow_losses, initialise
from .image_vae import fit_preview_colors, image_vae_losses
from .judge import Judge, judge_losses
from .loop import Trained, fit
from .small_sizes import make_sizes
from .text_vae import text_vae_losses

log = logging.getLogger(__name__)

Losses = Callable[[nn.Module, torch.Generator], Iterator[tuple[str, Tensor]]]

STEPS = {
    "image_vae": 4000,
    "clip": 6000,
    "text_vae": 5000,
    "diffuser": 12000,
    "captioner": 9000,
    "classifier": 500,
    "discriminator": 300,
    "decoder": 500,
}

# Samples per step of each flow (output kind, condition kind). The text flows cost a fifth of the image flows.
BATCHES = {("image", "text"): 40, ("image", "image"): 16, ("text", "image"): 48, ("text", "text"): 16}
# The same once captions are trained to be read, and not known by heart: what learns with them goes on, and
# gets smaller batches.
CAPTIONED, BESIDES = 64, {("image", "image"): 8, ("text", "text"): 16}

# Of each picture, seen by the flows from images: itself, and distorted ones, every other of them in other
# colours.
VIEWS = 12
INKED = 4  # copies of each picture in ink, told by the name alone, only to be read
# Copies of each picture at focus 0, drawn as its name in another style, and at focus 1, as another name in
# its style.
FOCUSED = 2
# Whole captions to one name alone and one style alone, seen by the flows from texts: so both become words
# apart.
WHOLE = 4


class SmallModelTraining:
    """The stages of one training run. Each returns a trained part and resumes, or just loads, when `out`
    already holds it.

    data:  captioned pictures; only `data.train` is ever trained on.
    out:   folder of the run: one folder per stage.
    steps: stage name -> number of steps.
    """

    def __init__(self, data: CaptionedPictures, out: Path, steps: dict[str, int]):
        self.data, self.out, self.steps = data, out, steps
        self.words = vocabularies.learn_vocabularies(data.captions)
        self.config = make_sizes(self.words)
        self.images = data.pixels[data.train]
        self.captions = [data.captions[i] for i in data.train]
        self.names = [data.names[i] for i in data.name[data.train]]
        self.styles = [write_style_caption(data.styles[i]) for i in data.style[data.train]]
        self.data_hash = digest(
            [
                data.images,
                data.is_held_out,
                torch.frombuffer(bytearray("\n".join(data.captions).encode()), dtype=torch.uint8),
            ]
        )
        self.words_hash = {"vocabularies": digest(to_tensors(self.words).values())}

    def image_vae(self) -> AutoencoderKL:
        """Train the autoencoder of images."""
        torch.manual_seed(0)
        losses = image_vae_losses(self.images, batch=16)
        vae = AutoencoderKL(self.config.image_vae)
        return self.fit(
            "image_vae",
            vae,
            losses,
            lr=2e-3,
            sheet=lambda model, out: sheets.draw_reconstructions(model, self.data, out),
        )

    def clip(self) -> Clip:
        """Return the two context encoders."""
        torch.manual_seed(0)
        tokenizer = ClipTokenizer(self.words.clip_merges, self.config.clip.text.positions)
        model = ContrastiveClip(Clip(self.config.clip, tokenizer))
        texts, train = Texts.of(self.data, tokenizer), self.data.train
        losses = contrastive_losses(
            self.images, self.data.name[train], self.data.style[train], texts, names_per_batch=14
        )
        return self.fit("clip", model, losses, lr=1.5e-3, parts=self.words_hash, weight_decay=0.05).clip

    def text_vae(self) -> Optimus:
        """Train the autoencoder of captions."""
        torch.manual_seed(0)
        optimus = Optimus(self.config.text_vae, self.words, attention="eager")
        texts = self.captions + self.names + self.styles
        rows = [optimus.words.encode(text) for text in texts]
        longest = max(map(len, rows))
        tokens = torch.tensor([row + [-100] * (longest - len(row)) for row in rows])
        losses = text_vae_losses(optimus.pieces(texts), tokens, batch=128)
        return self.fit("text_vae", optimus, losses, lr=2e-3, parts=self.words_hash)

    def diffuser(self, model: VersatileDiffusion, flows: dict[str, FlowData]) -> VersatileDiffusion:
        """Train all four flows, on what the frozen parts make of the training pictures (see `prepare`);
        returns the whole model."""
        torch.manual_seed(0)
        diffuser = Diffuser(model.config.diffuser)
        initialise(diffuser)
        return self.fit_flows(
            "diffuser", model.replace(diffuser=diffuser), self.losses(flows, model.config, BATCHES), {}
        )

    def captioner(self, model: VersatileDiffusion, flows: dict[str, FlowData]) -> VersatileDiffusion:
        """Train captions of pictures once more, so that they are read and not known by heart (see
        `captioning`); returns the whole model.

        Only the context layers of images and the data layers of texts learn; the two other flows through them
        go on beside. Pictures from texts stay as they are.
        """
        diffuser = copy.deepcopy(model.diffuser)
        for name, parameter in diffuser.named_parameters():
            parameter.requires_grad_(name.startswith(("context.image.", "data.text.")))
        names = self.data.name[self.data.train].repeat(
            len(flows["captions"].latents["text"]) // len(self.images)
        )
        reading = captioning_losses(flows["captions"], names, Schedule(model.config.schedule), CAPTIONED)
        losses = [*self.losses(flows, model.config, BESIDES), reading]
        return self.fit_flows(
            "captioner", model.replace(diffuser=diffuser), losses, {"diffuser": model.diffuser}
        )

    def decoder(self, model: VersatileDiffusion) -> VersatileDiffusion:
        """Train the decoder of pictures once more, against a discriminator (see `train_decoder`); returns the
        whole model."""
        torch.manual_seed(1)  # another start than that of a judge, which is to measure and not to teach
        judge = Judge(len(self.data.names), len(self.data.styles))
        classifier = self.fit("classifier", judge, judge_losses(self.data.trained), lr=2e-3)
        steps = {stage: self.steps[stage] for stage in ("discriminator", "decoder")}
        vae = train_decoder(model, self.data, classifier, self.out, steps, {"data": self.data_hash})
        return model.replace(image_vae=vae)

    @staticmethod
    def losses(
        flows: dict[str, FlowData], config: VDConfig, batches: dict[tuple[str, str], int]
    ) -> list[Losses]:
        """Return the diffusion losses of the flows in `batches`, one function for each kind of context."""
        schedule = Schedule(config.schedule)
        return [
            flow_losses(flows[kind], schedule, {flow: batches[flow] for flow in batches if flow[1] == kind})
            for kind in ("text", "image")
        ]

    def fit_flows(
        self, stage: str, model: VersatileDiffusion, losses: Sequence[Losses], parts: dict[str, nn.Module]
    ) -> VersatileDiffusion:
        """Train one stage of the diffuser with the losses added up; `parts` are what it depends on besides
        the other parts of the model."""
        parts = {"image_vae": model.image_vae, "clip": model.clip, "text_vae": model.text_vae, **parts}
        diffuser = self.fit(
            stage,
            model.diffuser,
            lambda module, generator: chain.from_iterable(each(module, generator) for each in losses),
            lr=1e-3,
            parts={name: digest(part.state_dict().values()) for name, part in parts.items()}
            | self.words_hash,
            sheet=lambda average, out: sheets.draw_samples(model.replace(diffuser=average), self.data, out),
        )
        return model.replace(diffuser=diffuser)

    @torch.no_grad()
    def prepare(
        self, image_vae: AutoencoderKL, clip: Clip, text_vae: Optimus
    ) -> tuple[dict[str, FlowData], VDConfig]:
        """Prepare what the flows from texts and from images are trained on, condition kind -> data, and the
        config with the measured scales.

        Texts meet the pictures as they are; a share of the texts says only the name or only the style. Images
        meet what they show: a distorted picture its own latent, so that they are copied by looking and not
        known by heart. Both meet their captions. Images in focus meet what the focus leaves: at 0,
        semantics, a picture of the same name and the name alone; at 1, style, another one in the same style
        and the style alone. "captions" has the views with the tokens and latents of their captions, and
        pictures in ink with those of their names.
        """
        texts = {"caption": self.captions, "name": self.names, "style": self.styles}
        tokens = {part: clip.encode_text(said) for part, said in texts.items()}
        images = encode(image_vae, self.images)
        told = {part: text_vae.encode(said) for part, said in texts.items()}
        config = self.measure(images, told["caption"])
        scale = {kind: sizes.latent_scale for kind, sizes in config.diffuser.data.items()}
        images, told = images * scale["image"], {part: z * scale["text"] for part, z in told.items()}

        views, generator = self.make_views(), torch.Generator().manual_seed(0)
        log.info("encoding %d views of %d pictures, which takes minutes", len(views), len(images))
        looks = [encode_images(clip, views)]
        seen = [images, encode(image_vae, views[len(images) :]) * scale["image"]]
        for level, number in ((0.0, self.data.name), (1.0, self.data.style)):
            for _ in range(FOCUSED):
                looks.append(encode_images(clip, self.images, level))
                seen.append(images[draw_partners(number[self.data.train], generator)])
        drawings = [
            encode_images(clip, draw_in_ink(distort(self.images, generator, strength=0.5), generator))
            for _ in range(INKED)
        ]
        black = clip.encode_image(torch.zeros(1, 3, 64, 64))
        nulls = {"text": clip.encode_text([""]), "image": torch.cat([torch.zeros_like(black), black])}

        def all_of(values: dict[str, Tensor], parts: list[str]) -> Tensor:
            return torch.cat([values[part] for part in parts])

        read = ["caption"] * WHOLE + ["name", "style"]
        shown = ["caption"] * VIEWS + ["name"] * FOCUSED + ["style"] * FOCUSED
        captioned = ["caption"] * VIEWS + ["name"] * INKED
        flows = {
            "text": FlowData(
                {"image": images.repeat(len(read), 1, 1, 1), "text": all_of(told, read)},
                {"text": all_of(tokens, read)},
                nulls,
            ),
            "image": FlowData(
                {"image": torch.cat(seen), "text": all_of(told, shown)}, {"image": torch.cat(looks)}, nulls
            ),
            "captions": FlowData(
                {"text": all_of(told, captioned)},
                {"image": torch.cat([looks[0], *drawings]).half(), "text": all_of(tokens, captioned).half()},
                nulls,
            ),
        }
        return flows, config

    def measure(self, images: Tensor, texts: Tensor) -> VDConfig:
        """Return the config with the scales of these latents, and with the colours for previews of images."""
        data = {
            kind: replace(self.config.diffuser.data[kind], latent_scale=1 / float(z.std()))
            for kind, z in (("image", images), ("text", texts))
        }
        data["image"] = replace(
            data["image"], preview=fit_preview_colors(images * data["image"].latent_scale, self.images)
        )
        return replace(self.config, diffuser=replace(self.config.diffuser, data=data))

    def make_views(self) -> Tensor:
        """Return the training pictures, then VIEWS - 1 distorted copies of all, every other time in other
        colours."""
        generator = torch.Generator().manual_seed(0)
        views = [self.images]
        for number in range(1, VIEWS):
            view = distort(self.images, generator, strength=0.5)
            views.append(recolour(view, generator, grey=0) if number % 2 == 0 else view)
        return torch.cat(views)

    def fit(
        self,
        name: str,
        module: Trained,
        losses: Callable[[Trained, torch.Generator], Iterator[tuple[str, Tensor]]],
        lr: float,
        parts: dict[str, str] | None = None,
        weight_decay: float = 0.01,
        sheet: Callable[[Trained, Path], None] | None = None,
    ) -> Trained:
        """Train one stage, or load what it left in its folder."""
        trained_on = {"data": self.data_hash, **(parts or {})}
        return fit(
            module,
            losses,
            self.out / name,
            steps=self.steps[name],
            lr=lr,
            trained_on=trained_on,
            weight_decay=weight_decay,
            sheet=sheet,
        )


def train(data: CaptionedPictures, out: Path, steps: dict[str, int]) -> Path:
    """Run or resume all stages and write the whole model, vocabularies included, as float16; returns its
    path."""
    run = SmallModelTraining(data, out, steps)
    image_vae, clip, text_vae = run.image_vae(), run.clip(), run.text_vae()
    flows, config = run.prepare(image_vae, clip, text_vae)
    model = run.diffuser(VersatileDiffusion(config, clip=clip, image_vae=image_vae, text_vae=text_vae), flows)
    model = run.decoder(run.captioner(model, flows))
    path = out / "model.safetensors"
    save_model(path, model, run.words, torch.float16)
    return path


def encode(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Encode many pictures [N, 3, H, W] as latents [N, C, h, w]."""
    return torch.cat([vae.encode(chunk) for chunk in images.split(64)])


def encode_images(clip: Clip, images: Tensor, focus: float = 0.5) -> Tensor:
    """Encode many pictures [N, 3, H, W] as context tokens [N, n, d]."""
    return torch.cat(
        [make_image_context(clip.encode_image, chunk, focus=focus).tokens for chunk in images.split(64)]
    )


def digest(tensors) -> str:
    """Return a short hash of tensors' contents."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(tensor.detach().contiguous().cpu().numpy().tobytes())
    return total.hexdigest()[:16]
