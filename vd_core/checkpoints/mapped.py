"""Files that are larger than the memory that reading them may take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from torch import Tensor

LET_GO = 1 << 27  # bytes: how much of a file is mapped at most beside the tensors that are kept


class MappedAnew(Mapping):
    """The tensors of a file that is mapped anew from time to time, so that what was read and is no longer used leaves the memory."""

    def __init__(self, open_file: Callable[[], Mapping[str, Tensor]]):
        self.open_file, self.weights, self.bytes_read = open_file, open_file(), 0

    def __getitem__(self, key: str) -> Tensor:
        if self.bytes_read > LET_GO:
            self.weights, self.bytes_read = self.open_file(), 0
        tensor = self.weights[key]
        self.bytes_read += tensor.nbytes
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)

    def __contains__(self, key: object) -> bool:
        return key in self.weights
