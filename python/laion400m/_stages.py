"""What engines share: settings, how pairs go from task to task, and what a task does with an archive or a shard.

Pairs are bytes on their way, those of one archive and one range of uids together, and only Rust looks into them: an engine that
had them row by row would spend more on its rows than all else takes. What is equal is found by uids alone.
"""

from __future__ import annotations

import functools
import gc
import glob
import importlib.util
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import pyarrow as pa

from laion400m import _core

Path = str | PathLike[str]
#: A recipe: a file, its content, or nothing for that of LAION-400M.
Settings = Path | Mapping[str, Any] | None
Counters = dict[str, int]
#: What a task does with rows that it has all of.
Work = Callable[[Iterable[pa.RecordBatch]], pa.Table]

STAGES = ("download", "embed", "filter", "pack")
#: Most ranges of uids. A task holds the pairs of one in memory, at first those of four archives.
RANGES_MAX = 4096


def _batches(rows: _core.Rows) -> pa.RecordBatchReader:
    # Not of Python's values: for those pyarrow would import pandas, which takes longer than a small archive.
    return pa.RecordBatchReader.from_stream(rows)


def _table(rows: _core.Rows) -> pa.Table:
    return _batches(rows).read_all()


#: What a task finds: pairs of a range of uids (whose they are and their uids, and the rest), and what became of its archive.
FOUND: pa.Schema = _table(_core.earlier([], 1)).schema
#: How many pairs of a range of uids stay; and of which archives how many, and how many an earlier run has.
ENDS: pa.Schema = _table(_core.ends([])).schema
#: Pairs of a range of uids.
PAIRS: pa.Schema = _table(_core.deduplicate([])).schema
#: What a range of uids has of a shard: pairs, of which other ranges have the rest, or the file where it has all of it.
CUT: pa.Schema = _table(_core.cut("", [], {}, 1)).schema
WRITTEN: pa.Schema = _table(_core.write_pairs("", [])).schema
#: A pair, with the columns of ``pairs/``.
PAIR: pa.Schema = _table(_core.rows([])).schema


def opened(recipe: Settings, archives: Sequence[str] | None = None) -> _core.Recipe:
    """The settings, with these archives instead of their own."""
    if recipe is None or isinstance(recipe, Mapping):
        read = _core.Recipe.parse(json.dumps({"archives": [], **(recipe or {})}), "")
    else:
        read = _core.Recipe.read(recipe)
    if archives is None:
        return read
    return _core.Recipe.parse(json.dumps({**json.loads(read.text()), "archives": list(archives)}), read.folder)


def ranges(archives: int, processors: int) -> int:
    """How many ranges of uids the pairs of so many archives are put into. What one archive has of one range goes its own way, so
    the fewer the better, as long as there is work for all processors."""
    return min(max(archives // 4, min(archives, processors), 1), RANGES_MAX)


def sources(recipe: _core.Recipe) -> list[tuple[int | None, list[str]]]:
    """What tasks read: an archive, by its number, or tables of earlier runs, in as many tasks as archives at most."""
    archives, tables = recipe.archives(), recipe.earlier_tables()
    each = -(-len(tables) // max(len(archives), 1))
    before = [(None, tables[at : at + each]) for at in range(0, len(tables), each or 1)]
    return [*before, *((number, [path]) for number, path in enumerate(archives))]


def found(recipe: _core.Recipe, number: int | None, paths: Sequence[str], ranges: int) -> pa.RecordBatchReader:
    """What a task finds in its sources: :data:`FOUND`."""
    return _batches(_core.earlier(paths, ranges) if number is None else recipe.collect(paths[0], number, ranges))


def ends(uids: Iterable[pa.RecordBatch]) -> pa.Table:
    """What becomes of pairs, of which these are the ranges and all uids: :data:`ENDS`."""
    return _table(_core.ends(_grouped(uids)))


def unique(pairs: Iterable[pa.RecordBatch]) -> pa.Table:
    """All of ranges of uids, each pair once: :data:`PAIRS`."""
    return _table(_core.deduplicate(_grouped(pairs)))


def starts(lengths: Iterable[tuple[int, int]]) -> tuple[dict[int, int], int]:
    """Where ranges of these lengths begin among all pairs, and how many there are."""
    begin, total = {}, 0
    for number, length in sorted(lengths):
        begin[number] = total
        total += length
    return begin, total


def split(starts: Mapping[int, int], total: int, shard_rows: int) -> int:
    """How many shards no range can write: those in which another range begins, and the last one, if it is not full."""
    return len({place // shard_rows for place in (*starts.values(), total) if place % shard_rows})


def cut(pairs: Iterable[pa.RecordBatch], run: str, starts: Mapping[int, int], shard_rows: int) -> pa.Table:
    """All of ranges of uids, each pair once, cut where shards begin: :data:`CUT`. Whole shards are written, and not carried any more."""
    return _table(_core.cut(run, _grouped(pairs), starts, shard_rows))


def written(cut: Iterable[pa.RecordBatch], run: str) -> pa.Table:
    """Writes shards of which these are all parts, unless they are written: :data:`WRITTEN`."""
    return _table(_core.write_pairs(run, _grouped(cut)))


def nothing(run: str) -> list[str]:
    """Writes a shard without pairs, the only one of a run that has none; the file it became."""
    return list(_table(_core.write_pairs(run, [(0, [])]))["file"].to_pylist())


def rows(carried: pa.Table | pa.RecordBatch) -> pa.Table:
    """Carried pairs as rows: :data:`PAIR`."""
    return _table(_core.rows(list(zip(_values(carried["uids"]), _values(carried["pairs"])))))


@functools.cache
def settle() -> None:
    """Has Python's collector pass over what is imported: Spark's workers have it look at everything after each task, for 30 ms."""
    gc.freeze()


def _grouped(rows: Iterable[pa.RecordBatch]) -> list[tuple[int, list[Any]]]:
    """Rows by the number in their first column, in its order; of each the other columns."""
    groups = dict[int, list[Any]]()
    for batch in rows:
        for number, *values in zip(*map(_values, batch.columns)):
            groups.setdefault(number, []).append(tuple(values))
    return sorted(groups.items())


def _values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Values for Python, and bytes where they are."""
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        return list(column.to_pylist())
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return [value for chunk in chunks for value in _views(chunk)]


def _views(column: pa.Array) -> Iterator[Any]:
    """Bytes of each value. Values that Arrow gives one by one are copies."""
    if len(column) == 0:
        return
    _, offsets, data = column.buffers()
    number = np.dtype(np.int64 if pa.types.is_large_binary(column.type) else np.int32)
    places = np.frombuffer(offsets, number, len(column) + 1, column.offset * number.itemsize).tolist()
    all_of = np.frombuffer(data or b"", np.uint8)
    for start, end, valid in zip(places, places[1:], column.is_valid().to_pylist()):
        yield all_of[start:end] if valid else None


#: What a worker has opened, by recipe, run, stages and cards: the model among it.
_here: dict[tuple[Any, ...], _core.Shards] = {}


def shard(recipe: tuple[str, str], run: str, stages: Sequence[str], cards: Sequence[int], number: int) -> list[str]:
    """Takes a shard of a run through stages, and gives the counts of each. ``recipe`` is its text and folder, ``cards`` are the
    CUDA devices that the engine gave the task."""
    key = (recipe, run, tuple(stages), tuple(cards))
    if key not in _here:
        _tell_library()
        _here[key] = _core.Recipe.parse(*recipe).shards(run, stages, cards)
    return [_here[key].stage(stage, number) for stage in stages]


def _tell_library() -> None:
    """Tells which library computes: that of this Python, wherever its packages are."""
    package = importlib.util.find_spec("onnxruntime")
    if "ORT_DYLIB_PATH" not in os.environ and package and package.origin:
        libraries = sorted(glob.glob(f"{glob.escape(os.path.dirname(package.origin))}/capi/libonnxruntime.*"))
        if libraries:
            os.environ["ORT_DYLIB_PATH"] = libraries[-1]


def added(counts: Iterable[dict[str, Any]]) -> str:
    """The sum of counts, as JSON."""
    total: dict[str, Any] = {"rows": 0, "kept": 0, "dropped": {}, "failed": {}}
    for part in counts:
        for name, value in part.items():
            if isinstance(value, dict):
                into = total.setdefault(name, {})
                for key, number in value.items():
                    into[key] = into.get(key, 0) + number
            else:
                total[name] += value
    return json.dumps(total)
