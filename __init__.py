"""Versatile Diffusion and Prompt-Free Diffusion for ComfyUI."""

# ComfyUI imports this file as a package; pytest meets it as a plain file, where relative imports cannot work.
if __package__:
    from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

    WEB_DIRECTORY = "./web"  # help pages
    __all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
