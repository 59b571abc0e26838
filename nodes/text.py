"""Nodes for text latents."""

import torch

from ..vd_core.autoencoders.optimus import edit_latent
from ..vd_core.autoencoders.sentences import remove_duplicate_phrases
from .choices import choice, long_text, number, seed, share, socket, switch, whole
from .latents import NOISES, make_word_generators, read_samples

CATEGORY = "VersatileDiffusion/text"
TEXT_VAE = socket("VD_TEXT_VAE", "From Load Versatile Diffusion or Load Text Model (VD).")


class VD_EmptyTextLatent:
    """Make empty text latents."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Empty text latents to start from: one for each text to make."
    SEARCH_ALIASES = ["empty latent text", "caption"]
    RETURN_TYPES = ("LATENT",)
    OUTPUT_TOOLTIPS = ("For a sampler with text_model.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"text_vae": TEXT_VAE, "batch_size": whole(4, 1, 4096, "How many texts to make.")}
        }

    def execute(self, text_vae, batch_size):
        return ({"samples": torch.zeros(batch_size, text_vae.width, 1, 1)},)


class VD_TextEncode:
    """Encode sentences as text latents."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Turns sentences into text latents, to start from instead of empty ones: fidelity or denoise says "
        "how far they change."
    )
    SEARCH_ALIASES = ["optimus encode", "text latent"]
    RETURN_TYPES = ("LATENT",)
    OUTPUT_TOOLTIPS = ("One latent for each line; for latent_image of a sampler with text_model.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text_vae": TEXT_VAE, "text": long_text("One sentence per line.")}}

    def execute(self, text_vae, text):
        return ({"samples": text_vae.encode(split_lines(text))[:, :, None, None]},)


def split_lines(text: str) -> list[str]:
    """Pick the lines of a text that say something. Raises ValueError where none does."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError("There is no text to encode: write one per line.")
    return lines


class VD_EditText:
    """Change the meaning of text latents."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Takes one meaning out of text latents and puts another one in: the official I2T2I editing. On the "
        "latents of a picture's captions it edits the picture, once these are drawn again with the picture's "
        "style."
    )
    SEARCH_ALIASES = ["i2t2i", "latent editing", "replace", "optimus", "text arithmetic"]
    RETURN_TYPES = ("LATENT",)
    OUTPUT_TOOLTIPS = ("The edited latents, for Latent to Text (VD).",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "text_vae": TEXT_VAE,
                "samples": socket(
                    "LATENT",
                    "Text latents: of captions, from a sampler with text_model, or of Text to Latent (VD).",
                ),
                "remove": long_text("What to take out; nothing if it is empty."),
                "add": long_text("What to put in; nothing if it is empty."),
            }
        }

    def execute(self, text_vae, samples, remove, add):
        latents = flatten_text(read_samples(samples, "samples"))
        if latents.shape[1] != text_vae.width:
            raise ValueError(
                f"samples are {latents.shape[1]} wide where this text autoencoder has {text_vae.width}: they "
                "come from another model."
            )
        zero = torch.zeros_like(latents[:1])
        taken, given = (
            text_vae.encode([text]).to(latents) if text.strip() else zero for text in (remove, add)
        )
        return ({**samples, "samples": edit_latent(latents, taken, given)[:, :, None, None]},)


def flatten_text(latents: torch.Tensor) -> torch.Tensor:
    """Flatten text latents [B, width, 1, 1] to [B, width]. Raises ValueError for others."""
    if latents.ndim != 4 or latents.shape[2:] != (1, 1) or not len(latents):
        raise ValueError(
            f"samples must be text latents, got a latent {list(latents.shape)}: decode pictures with VAE "
            "Decode."
        )
    return latents.flatten(1)


class VD_TextDecode:
    """Write text latents as sentences."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Turns text latents into sentences. Connect text to Preview Any (Preview as Text in newer versions) "
        "to see them."
    )
    SEARCH_ALIASES = ["optimus decode", "caption", "describe image", "image to text", "show text"]
    RETURN_TYPES = ("STRING", "STRING")
    RETURN_NAMES = ("text", "texts")
    OUTPUT_IS_LIST = (False, True)
    OUTPUT_TOOLTIPS = ("All sentences, one per line.", "The sentences one by one.")
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "text_vae": TEXT_VAE,
                "samples": socket(
                    "LATENT", "Text latents, from a sampler with text_model or from Text to Latent (VD)."
                ),
                "seed": seed("The same seed reads the same words."),
                "temperature": number(
                    1.0, 0.0, 10.0, 0.01, "0 always takes the likeliest word; higher is bolder."
                ),
                "top_k": whole(0, 0, 100000, "Choose among the k likeliest words only; 0 is off."),
                "top_p": share(
                    1.0, "Choose among the likeliest words that together have this probability; 1 is off."
                ),
                "remove_duplicates": switch(
                    True, "Within each text, remove phrases that are said twice in a row."
                ),
            },
            "optional": {
                "noise": choice(
                    NOISES,
                    NOISES[0],
                    "per sample: no text depends on the others; official: as the official app draws after "
                    "its sampler.",
                )
            },
        }

    def execute(self, text_vae, samples, seed, temperature, top_k, top_p, remove_duplicates, noise=NOISES[0]):
        latents = flatten_text(read_samples(samples, "samples"))
        generators = make_word_generators(seed, samples, noise == "official")
        texts = text_vae.decode(latents, generators, temperature, top_k, top_p)
        texts = [remove_duplicate_phrases(text) for text in texts] if remove_duplicates else texts
        return {"ui": {"text": texts}, "result": ("\n".join(texts), texts)}
