"""Where the nodes run: inside ComfyUI, which has then been imported already, or without it."""

import sys

from .protocol import Host

host: Host
if "folder_paths" in sys.modules:
    from . import comfyui

    host = comfyui
else:
    from . import standalone

    host = standalone

__all__ = ["host"]
