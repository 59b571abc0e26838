"""Dynamic VRAM on a CPU: core streams weights on NVIDIA GPUs alone, so a test without one makes it believe in
its CPU.

What is replaced is what needs the GPU's driver: pinned host memory, and the pages of video memory that
weights are mapped to. Everything else is core's: which class a model gets, layers that hold no weights before
they are loaded, how they are cast, patches that act while a weight is cast.
"""

import ctypes
import mmap

import comfy.memory_management
import comfy.model_patcher
import comfy.ops
import comfy_aimdo.host_buffer
import comfy_aimdo.model_mmap
import comfy_aimdo.model_vbar

DYNAMIC = comfy.model_patcher.ModelPatcherDynamic
CAST = comfy.ops.cast_bias_weight


class HostBuffer:
    """Pinned memory that is never filled."""

    size = 0

    def __init__(self, *sizes):
        pass

    def truncate(self, *sizes, **options):
        pass


class ModelMMAP:
    """A file in memory."""

    def __init__(self, path):
        self.file = open(path, "rb")  # noqa: SIM115  open as long as its memory is used
        self.bytes = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_COPY)

    def get(self):
        return ctypes.addressof(ctypes.c_char.from_buffer(self.bytes))

    def get_file_handle(self):
        return self.file


def unload(self, device_to, memory_to_free=0, force_patch_weights=False):
    """Give back what is loaded; core's own asserts that there is a GPU."""
    return self.restore_loaded_backups()


def cast(layer, *arguments, **options):
    """Cast a layer's weights, patched first and then through its own functions: what core does once pages are
    resolved (resolve_cast_module_with_vbar). Where there are none it passes over the patches of streamed
    weights."""
    own = {name: getattr(layer, f"{name}_function", []) for name in ("weight", "bias")}
    for name, functions in own.items():
        patch = getattr(layer, f"{name}_lowvram_function", None)
        setattr(layer, f"{name}_function", [*([patch] if patch else []), *functions])
    try:
        return CAST(layer, *arguments, **options)
    finally:
        for name, functions in own.items():
            setattr(layer, f"{name}_function", functions)


# core's own makes a plain patcher on a CPU
DYNAMIC.__new__ = lambda cls, *arguments, **options: object.__new__(cls)
DYNAMIC.partially_unload = unload
comfy.ops.cast_bias_weight = cast
comfy.model_patcher.CoreModelPatcher = DYNAMIC
comfy_aimdo.host_buffer.HostBuffer = HostBuffer
comfy_aimdo.model_mmap.ModelMMAP = ModelMMAP
comfy_aimdo.model_vbar.vbars_analyze = lambda device: 0
comfy.memory_management.aimdo_enabled = True

NODE_CLASS_MAPPINGS = {}
