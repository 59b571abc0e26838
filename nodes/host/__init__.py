"""Where the nodes run: inside ComfyUI, which has then been imported already, or without it. Both hosts have the same functions."""

import sys

if "folder_paths" in sys.modules:
    from . import comfyui as host
else:
    from . import standalone as host

__all__ = ["host"]
