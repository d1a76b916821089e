"""What engines share: settings, the columns of pairs, and what a task does with an archive or a shard."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any

import pyarrow as pa

from laion400m import _core

Path = str | PathLike[str]
#: A recipe: a file, its content, or nothing for that of LAION-400M.
Settings = Path | Mapping[str, Any] | None
Counters = dict[str, int]

STAGES = ("download", "embed", "filter", "pack")
_STRINGS = ("uid", "url", "caption", "page_url", "license", "license_evidence", "language", "archive")
PAIR = pa.schema(
    [*((name, pa.string()) for name in _STRINGS)]
    + [("record_offset", pa.int64()), ("link_path", pa.string()), ("source", pa.string())]
)
#: A pair and where it was found: of equal ones the first stays. Besides a row for each archive that tells what became of it.
FOUND = pa.schema([*PAIR, ("archive_number", pa.int32()), ("position", pa.int64()), ("read", pa.string())])


def opened(recipe: Settings, archives: Sequence[str] | None = None) -> _core.Recipe:
    """The settings, with these archives instead of their own."""
    if recipe is None or isinstance(recipe, Mapping):
        read = _core.Recipe.parse(json.dumps({"archives": [], **(recipe or {})}), "")
    else:
        read = _core.Recipe.read(recipe)
    if archives is None:
        return read
    return _core.Recipe.parse(json.dumps({**json.loads(read.text()), "archives": list(archives)}), read.folder)


def archive(recipe: _core.Recipe, number: int, path: str) -> Iterator[pa.RecordBatch]:
    """What an archive has, as :data:`FOUND` says."""
    rows, told = recipe.collect(path)
    first = 0
    for pairs in pa.RecordBatchReader.from_stream(rows):
        positions = pa.array(range(first, first + len(pairs)), pa.int64())
        first += len(pairs)
        yield _found(pairs.columns, number, positions, None)
    yield _found([pa.nulls(1, field.type) for field in PAIR], number, pa.nulls(1, pa.int64()), told)


def _found(pairs: Sequence[Any], number: int, positions: Any, read: str | None) -> pa.RecordBatch:
    rows = len(positions)
    last = [pa.array([number] * rows, pa.int32()), positions, pa.array([read] * rows, pa.string())]
    return pa.RecordBatch.from_arrays([*pairs, *last], schema=FOUND)


#: What a worker has opened, by recipe and run: the model among it.
_here: dict[tuple[str, str, str], _core.Shards] = {}


def shard(recipe: tuple[str, str], run: str, stages: Iterable[str], number: int) -> list[str]:
    """Takes a shard of a run through stages, and gives the counts of each. ``recipe`` is its text and folder."""
    key = (*recipe, run)
    if key not in _here:
        _here[key] = _core.Recipe.parse(*recipe).shards(run)
    return [_here[key].stage(stage, number) for stage in stages]


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
