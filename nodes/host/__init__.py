"""Where the nodes run. Each host is a module with the same functions: loading, encoding, sampling, decoding, progress."""

from . import standalone as host

__all__ = ["host"]
