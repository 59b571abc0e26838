"""torch.compile for the diffuser's walk: what it compiles, and what happens where it cannot."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

log = logging.getLogger(__name__)
MODES = (None, "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


class Compiled:
    """A function of tensors, compiled; where that fails, the function itself, after one sentence in the log.

    mode: as that of `torch.compile`; "reduce-overhead" records CUDA graphs. Any other raises
          ValueError.

    It is compiled again where the function takes another path: once for all other sizes, and for each other
    number of contexts or evaluations. At its limit (`torch._dynamo.config.recompile_limit`, 8) torch runs
    further ones uncompiled.
    """

    def __init__(
        self, function: Callable[..., Tensor], mode: str | None = None, backend: str | Callable = "inductor"
    ):
        if mode not in MODES:
            raise ValueError(f"mode is one of {', '.join(map(str, MODES))}, got {mode!r}.")
        self.plain, self.mode, self.backend = function, mode, backend
        self.compiled: Callable[..., Tensor] | None = None
        self.works = True

    def __call__(self, *arguments) -> Tensor:
        if not self.works:
            return self.plain(*arguments)
        try:
            if self.compiled is None:
                self.compiled = torch.compile(self.plain, mode=self.mode, backend=self.backend)
            return self.compiled(*arguments).clone()  # the next call of a CUDA graph writes over its result
        except RuntimeError as error:  # of torch's compiler, or of what is compiled: then it comes again
            result = self.plain(*arguments)
            self.works = False
            reason = " ".join(str(error).split("\n")[:2])
            log.warning("torch.compile does not work here, so the diffuser runs without it: %s", reason)
            return result
