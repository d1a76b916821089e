"""Examples by their numbers."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from typing import Any

from laion400m import _core
from laion400m._info import Info, images, info, opened
from laion400m._loader import Batch, Example, as_arrays


class DataSource(Sequence[Example]):
    """The examples of a split by their numbers, as ``tfds.data_source``, Grain and PyTorch's samplers want them."""

    def __init__(self, where: tuple[Any, ...], split: str, images: int | None, threads: int) -> None:
        self._arguments = (where, split, images, threads)
        self._dataset = opened(*where)
        self._access = self._dataset.access(split, images, threads)
        self._process = os.getpid()

    @property
    def info(self) -> Info:
        """What the package holds."""
        return info(self._dataset)

    def __len__(self) -> int:
        return len(self._access)

    def _get(self, numbers: Sequence[int]) -> dict[str, Any]:
        if os.getpid() != self._process:  # files that are open share their position with the parent's
            _, split, images, threads = self._arguments
            self._access, self._process = self._dataset.access(split, images, threads), os.getpid()
        length = len(self)
        found = []
        for number in map(operator.index, numbers):
            if not -length <= number < length:
                raise IndexError(f"no example {number}: there are {length}")
            found.append(number % length)
        return self._access.get(found).columns()

    def __getitem__(self, number: int) -> Example:  # type: ignore[override]
        return {name: values[0] for name, values in self._get([number]).items()}

    def __getitems__(self, numbers: Sequence[int]) -> list[Example]:
        columns = self._get(numbers)
        return [{name: values[row] for name, values in columns.items()} for row in range(len(numbers))]

    def batch(self, numbers: Sequence[int]) -> Batch:
        """Examples of these numbers in one batch."""
        return as_arrays(self._get(numbers))

    def __reduce__(self) -> tuple[Any, ...]:
        return DataSource, self._arguments


def data_source(
    name: str | os.PathLike[str],
    *,
    split: str = "train",
    data_dir: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    decode: bool = True,
    embeddings: str | os.PathLike[str] | None = None,
    threads: int = 1,
) -> DataSource:
    """Opens a package for random access. The arguments are those of :func:`laion400m.load`."""
    return DataSource((name, data_dir, embeddings), split, images(decode, image_size), threads)
