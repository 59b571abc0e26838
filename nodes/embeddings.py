"""Nodes for contexts in files."""

from pathlib import Path

from .choices import choice, line, socket, switch
from .conditioning import to_conditioning, to_contexts
from .host import host

CATEGORY = "VersatileDiffusion/conditioning"
KINDS = ("as saved", "text", "image")


class VD_SaveContext:
    """Save a context."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Saves a context, of Versatile Diffusion or of SeeCoder, as a .safetensors file in the output folder."
    )
    SEARCH_ALIASES = ["save conditioning", "save embedding", "export"]
    RETURN_TYPES = ()
    FUNCTION = "execute"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "positive": socket("CONDITIONING", "positive of one context, not of a blend."),
                "negative": socket("CONDITIONING", "negative of the same context."),
                "filename_prefix": line("context", "The file's name; a number follows."),
            },
            "hidden": {"output_directory": "OUTPUT_DIRECTORY"},
        }

    def execute(self, positive, negative, filename_prefix, output_directory=None):
        from ..vd_core.checkpoints.contexts import dump_context
        from ..vd_core.files import save_numbered

        contexts = to_contexts(positive, negative)
        if len(contexts) != 1:
            raise ValueError(
                f"A file holds one context, but this is a blend of {len(contexts)}: save them before they "
                "are blended."
            )
        folder, stem = host.output_place(filename_prefix, output_directory)
        path = save_numbered(folder, stem, "_.safetensors", lambda file: dump_context(file, contexts[0]))
        return {"ui": {"text": [str(path)]}}


class VD_LoadContext:
    """Load a context."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Loads a context that was saved, or an embedding from another program (.safetensors, .npy, .pt; "
        "[tokens, width] or a batch): CLIP matrices predicted from brain activity, or anime_ug.pth of "
        "Prompt-Free Diffusion."
    )
    SEARCH_ALIASES = ["load conditioning", "load embedding", "import", "brain decoding", "fmri"]
    RETURN_TYPES = ("CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("positive", "negative")
    OUTPUT_TOOLTIPS = ("What to move towards.", "What was saved with it, else zeros.")
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        tooltip = "A file of the input folder, or of models/versatile_diffusion or models/seecoder."
        return {
            "required": {
                "file": (host.file_names("context"), {"tooltip": tooltip}),
                "kind": choice(KINDS, KINDS[0], "What it is; files of other programs do not say it."),
                "normalise": switch(False, "Scale a picture's tokens so that the first has norm 1."),
            }
        }

    def execute(self, file, kind, normalise):
        from ..vd_core.checkpoints.contexts import load_context

        return to_conditioning(
            [load_context(host.find(file, "context"), None if kind == KINDS[0] else kind, normalise)]
        )

    @classmethod
    def IS_CHANGED(cls, file, kind, normalise):
        return Path(host.find(file, "context")).stat().st_mtime
