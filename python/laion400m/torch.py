"""PyTorch: batches as tensors, in workers and on several hosts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.utils.data

from laion400m import _core
from laion400m._loader import Batch, Loader


class IterableDataset(torch.utils.data.IterableDataset[Any]):
    """A loader for ``torch.utils.data.DataLoader(..., batch_size=None)``: the workers of a host share its examples, each
    of which comes once.

    The loader decodes in threads of its own, so ``num_workers=0`` is the fastest way. Several hosts each give their
    loader ``part=(rank, world_size)``. Workers are copies: before each epoch, tell the loader with ``set_epoch``, or use
    the ``DataLoader`` of this module, which knows.
    """

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        index, count = (worker.id, worker.num_workers) if worker else (0, 1)
        batches = self.loader._shared(self.loader._begin(), index, count)
        for batch in batches:
            yield from self._parts(batch.columns())
        self.loader._end(batches.state())

    def _parts(self, columns: Batch) -> Iterator[Batch]:
        tensors = as_tensors(columns)
        if self.loader._batch_size is not None:
            yield tensors
        else:
            rows = len(next(iter(tensors.values()), ()))
            yield from ({name: values[row] for name, values in tensors.items()} for row in range(rows))


class _Told(torch.utils.data.IterableDataset[Any]):
    """Batches, each with what it has brought behind: that is what the main process keeps."""

    def __init__(self, loader: Loader, state: str) -> None:
        self.loader, self.state = loader, state

    def __iter__(self) -> Iterator[tuple[Batch, str]]:
        worker = torch.utils.data.get_worker_info()
        index, count = (worker.id, worker.num_workers) if worker else (0, 1)
        for batch in self.loader._shared(self.state, index, count):
            yield as_tensors(batch.columns()), json.dumps(batch.passed())  # PyTorch would make tensors of numbers


class DataLoader:
    """Batches as tensors, made by worker processes if there are any, whose state can be kept and taken up again with
    another number of workers: exactly the examples that were left follow.

    Further arguments are those of ``torch.utils.data.DataLoader``.
    """

    def __init__(self, loader: Loader, num_workers: int = 0, **settings: Any) -> None:
        if loader._batch_size is None:
            raise ValueError("the loader needs a batch_size")
        self.loader, self.num_workers, self.settings = loader, num_workers, settings

    def __len__(self) -> int:
        return len(self.loader)

    def state_dict(self) -> dict[str, Any]:
        """Where the last iteration stands: what was given out, not what workers have made ahead."""
        return self.loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Makes the next iteration go on from there."""
        self.loader.load_state_dict(state)

    def __iter__(self) -> Iterator[Batch]:
        state = self.loader._begin()
        told = _Told(self.loader, state)
        batches = torch.utils.data.DataLoader(told, batch_size=None, num_workers=self.num_workers, **self.settings)
        for tensors, told in batches:
            places, skipped = json.loads(told)
            state = _core.merge(state, [(start, end) for start, end in places], skipped)
            self.loader._position = (state, [], 0)
            yield tensors
        self.loader._end(state)


def as_tensors(columns: Batch) -> Batch:
    """Arrays become tensors without a copy; texts and stored pictures stay lists of bytes."""

    def tensor(values: Any) -> Any:
        if isinstance(values, np.ndarray):
            return torch.from_numpy(values)
        return [tensor(value) if isinstance(value, np.ndarray) else value for value in values]

    return {name: tensor(values) for name, values in columns.items()}
