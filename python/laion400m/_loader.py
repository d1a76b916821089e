"""Examples in their order, one by one or in batches."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeAlias, overload

import numpy as np

from laion400m import _core
from laion400m._info import Info, images, info, opened

#: Arrays under the names of the features of TFDS; the first axis is the example.
Batch: TypeAlias = dict[str, Any]
#: Values under the names of the features of TFDS.
Example: TypeAlias = dict[str, Any]

#: Examples that are read at a time where no batches are asked for.
_CHUNK = 64


class Loader:
    """Reads a split again and again; every iteration is an epoch, with an order of its own if it is shuffled.

    ``len()`` says how many batches, or examples, an epoch has before filtering. ``state_dict()`` may be kept at any
    moment, and a loader that is given it goes on with exactly the examples that were left.
    """

    def __init__(
        self,
        dataset: _core.Dataset,
        options: dict[str, Any],
        *,
        batch_size: int | None,
        drop_remainder: bool,
        images: int | None,
        ids: bool,
        threads: int,
        prefetch: int,
        where: tuple[Any, ...],
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        self._dataset = dataset
        self._options = options
        self._batch_size = batch_size
        self._drop_remainder = drop_remainder
        self._images = images
        self._ids = ids
        self._threads = threads
        self._prefetch = prefetch
        self._where = where
        #: A state from which the next iteration goes on, and what has been passed since.
        self._position: tuple[str, list[tuple[int, int]], int] | None = None
        self._resumes = False
        self._skipped = 0
        self._count = dataset.count(json.dumps(options))

    @property
    def info(self) -> Info:
        """What the package holds."""
        return info(self._dataset)

    @property
    def epoch(self) -> int:
        """The epoch that runs, or comes next."""
        shuffle = self._options["shuffle"]
        return int(shuffle["epoch"]) if shuffle else 0

    @property
    def skipped(self) -> int:
        """Damaged examples that were passed over in the epoch that runs, or else in the last one."""
        return self._skipped if self._position is None else int(json.loads(self._state())["skipped"])

    def set_epoch(self, epoch: int) -> None:
        """Makes the next iteration that of another epoch."""
        if self._options["shuffle"]:
            self._options["shuffle"]["epoch"] = epoch
        self._position = None
        self._resumes = False

    def __len__(self) -> int:
        if self._batch_size is None:
            return self._count
        return self._count // self._batch_size if self._drop_remainder else -(-self._count // self._batch_size)

    def _state(self) -> str:
        if self._position is None:
            return self._dataset.start(json.dumps(self._options))
        return _core.merge(*self._position)

    def state_dict(self) -> dict[str, Any]:
        """Where the last iteration stands, as plain data that JSON and torch can keep."""
        state: dict[str, Any] = json.loads(self._state())
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Makes the next iteration go on from there. The state brings its split, order and filter along."""
        text = json.dumps(state)
        self._batches(text, (0, 1, 1)).state()  # tells at once whether it fits the package
        self._options = state["options"]
        self._count = self._dataset.count(json.dumps(self._options))
        self._position = (text, [], 0)
        self._resumes = True

    def _batches(self, state: str, share: tuple[int, int, int], ahead: int = 0) -> _core.Batches:
        return self._dataset.batches(
            state,
            share,
            self._batch_size or _CHUNK,
            self._drop_remainder and self._batch_size is not None,
            self._images,
            self._ids,
            self._threads,
            ahead,
        )

    def _begin(self) -> str:
        """The state the next iteration begins with."""
        if not self._resumes:
            self._position = None
        self._resumes = False
        return self._state()

    def _end(self, state: str) -> None:
        """An epoch has ended in this state: the next one follows."""
        self._skipped = int(json.loads(state)["skipped"])
        self.set_epoch(self.epoch + 1)

    def _shared(self, state: str, index: int, count: int) -> _core.Batches:
        """Batches of one of several readers."""
        return self._batches(state, (index, count, self._batch_size or _CHUNK), self._prefetch)

    def __iter__(self) -> Iterator[Batch]:
        state = self._begin()
        batches = self._shared(state, 0, 1)
        for batch in batches:
            columns = batch.columns()
            if self._batch_size is None:
                for row in range(len(batch)):
                    self._position = (state, *batch.passed(row))
                    yield {name: values[row] for name, values in columns.items()}
            else:
                self._position = (state, *batch.passed())
                yield as_arrays(columns)
            state = self._state()
        self._end(batches.state())

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """An epoch in Arrow batches, as pyarrow, polars and DuckDB ask for it."""
        batches = self._batches(self._begin(), (0, 1, 1), self._prefetch)
        return _core.Stream(batches).__arrow_c_stream__(requested_schema)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self._where, self.state_dict(), self._settings())

    def _settings(self) -> dict[str, Any]:
        return {
            "batch_size": self._batch_size,
            "drop_remainder": self._drop_remainder,
            "images": self._images,
            "ids": self._ids,
            "threads": self._threads,
            "prefetch": self._prefetch,
        }


def _rebuilt(where: tuple[Any, ...], state: dict[str, Any], settings: dict[str, Any]) -> Loader:
    loader = Loader(opened(*where), state["options"], where=where, **settings)
    loader.load_state_dict(state)
    return loader


def as_arrays(columns: dict[str, Any]) -> Batch:
    """Texts and stored pictures become arrays of bytes objects, as TFDS gives them."""
    for name, values in columns.items():
        if isinstance(values, list) and not (values and isinstance(values[0], np.ndarray)):
            array = np.empty(len(values), dtype=object)
            array[:] = values
            columns[name] = array
    return columns


@overload
def load(
    name: str | os.PathLike[str],
    *,
    split: str = ...,
    data_dir: str | os.PathLike[str] | None = ...,
    batch_size: int | None = ...,
    shuffle_files: bool = ...,
    seed: int = ...,
    epoch: int = ...,
    shuffle_buffer: int = ...,
    image_size: int | None = ...,
    decode: bool = ...,
    where: str | None = ...,
    features: Sequence[str] | None = ...,
    part: tuple[int, int] | None = ...,
    rounding: Literal["closest", "pct1_drop_remainder"] = ...,
    on_damage: Literal["stop", "skip"] = ...,
    drop_remainder: bool = ...,
    embeddings: str | os.PathLike[str] | None = ...,
    add_tfds_id: bool = ...,
    threads: int = ...,
    prefetch: int = ...,
    with_info: Literal[False] = ...,
) -> Loader: ...
@overload
def load(
    name: str | os.PathLike[str],
    *,
    split: str = ...,
    data_dir: str | os.PathLike[str] | None = ...,
    batch_size: int | None = ...,
    shuffle_files: bool = ...,
    seed: int = ...,
    epoch: int = ...,
    shuffle_buffer: int = ...,
    image_size: int | None = ...,
    decode: bool = ...,
    where: str | None = ...,
    features: Sequence[str] | None = ...,
    part: tuple[int, int] | None = ...,
    rounding: Literal["closest", "pct1_drop_remainder"] = ...,
    on_damage: Literal["stop", "skip"] = ...,
    drop_remainder: bool = ...,
    embeddings: str | os.PathLike[str] | None = ...,
    add_tfds_id: bool = ...,
    threads: int = ...,
    prefetch: int = ...,
    with_info: Literal[True],
) -> tuple[Loader, Info]: ...
@overload
def load(
    name: str | os.PathLike[str],
    *,
    split: Sequence[str] | None,
    data_dir: str | os.PathLike[str] | None = ...,
    batch_size: int | None = ...,
    shuffle_files: bool = ...,
    seed: int = ...,
    epoch: int = ...,
    shuffle_buffer: int = ...,
    image_size: int | None = ...,
    decode: bool = ...,
    where: str | None = ...,
    features: Sequence[str] | None = ...,
    part: tuple[int, int] | None = ...,
    rounding: Literal["closest", "pct1_drop_remainder"] = ...,
    on_damage: Literal["stop", "skip"] = ...,
    drop_remainder: bool = ...,
    embeddings: str | os.PathLike[str] | None = ...,
    add_tfds_id: bool = ...,
    threads: int = ...,
    prefetch: int = ...,
    with_info: bool = ...,
) -> Any: ...
def load(
    name: str | os.PathLike[str],
    *,
    split: str | Sequence[str] | None = "train",
    data_dir: str | os.PathLike[str] | None = None,
    batch_size: int | None = None,
    shuffle_files: bool = False,
    seed: int = 0,
    epoch: int = 0,
    shuffle_buffer: int = 4096,
    image_size: int | None = None,
    decode: bool = True,
    where: str | None = None,
    features: Sequence[str] | None = None,
    part: tuple[int, int] | None = None,
    rounding: Literal["closest", "pct1_drop_remainder"] = "closest",
    on_damage: Literal["stop", "skip"] = "stop",
    drop_remainder: bool = False,
    embeddings: str | os.PathLike[str] | None = None,
    add_tfds_id: bool = False,
    threads: int = 0,
    prefetch: int = 2,
    with_info: bool = False,
) -> Any:
    """Opens a package for reading.

    Args:
        name: A folder, or ``images``, ``embeddings``, ``laion400m/images:1.0.0`` and the like below ``data_dir``.
        split: In the split language of TFDS, such as ``train[:10%]``; a list of them gives a list of loaders, and
            ``None`` a dictionary.
        data_dir: Where TFDS keeps its datasets: ``$TFDS_DATA_DIR``, or else ``~/tensorflow_datasets``.
        batch_size: Examples of a batch; without it they come one by one.
        shuffle_files: Shuffle shards, and examples within ``shuffle_buffer``; every epoch differently. The order follows
            from ``seed`` and ``epoch``.
        image_size: Side of the centred square that pictures are scaled to (bicubic, as CLIP's preprocessing does). A
            batch is then one array; without it, pictures keep their sizes and a batch is a list of arrays.
        decode: Without it pictures stay bytes.
        where: Which examples are wanted, such as ``similarity > 0.32 and nsfw == UNLIKELY and original_width >= 512``.
            It is asked before anything is decoded.
        features: Those to read; all by default.
        part: ``(rank, world_size)``: the part of the split that this host reads. All parts are equally large.
        rounding: How per cents become examples.
        on_damage: Whether a damaged example ends the iteration with ``DamagedError``, or is passed over and counted.
        drop_remainder: Leave out the last batch if it is smaller.
        embeddings: Another package from which each example gets its image and text embedding.
        add_tfds_id: Give each example the name of its record.
        threads: Threads that decode; 0 takes as many as there are processors.
        prefetch: Batches that are made ahead.
        with_info: Give an ``Info``, too.
    """
    where_it_is = (name, data_dir, embeddings)
    dataset = opened(*where_it_is)

    def loader(split: str) -> Loader:
        options = {
            "split": split,
            "rounding": rounding,
            "part": part,
            "shuffle": {"seed": seed, "epoch": epoch, "buffer": shuffle_buffer} if shuffle_files else None,
            "on_damage": on_damage,
            "filter": where,
            "features": features if features is None else list(features),
        }
        return Loader(
            dataset,
            options,
            batch_size=batch_size,
            drop_remainder=drop_remainder,
            images=images(decode, image_size),
            ids=add_tfds_id,
            threads=threads,
            prefetch=prefetch,
            where=where_it_is,
        )

    found: Loader | dict[str, Loader] | list[Loader]
    if split is None:
        found = {"train": loader("train")}
    else:
        found = loader(split) if isinstance(split, str) else [loader(one) for one in split]
    return (found, info(dataset)) if with_info else found
