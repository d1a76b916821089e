"""What engines share: settings, how pairs go from task to task, and what a task does with an archive or a shard.

Pairs are bytes on their way, those of one archive and one range of uids together, and only Rust looks into them: an engine that
had them row by row would spend more on its rows than all else takes.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

import pyarrow as pa

from laion400m import _core

Path = str | PathLike[str]
#: A recipe: a file, its content, or nothing for that of LAION-400M.
Settings = Path | Mapping[str, Any] | None
Counters = dict[str, int]

STAGES = ("download", "embed", "filter", "pack")
#: Most ranges of uids. A task holds the pairs of one in memory; at first there are as many as archives.
RANGES_MAX = 4096

#: Pairs of an archive in a range of uids; besides a row for each archive that tells what became of it.
FOUND = pa.schema([("range", pa.int32()), ("pairs", pa.binary()), ("archive_number", pa.int32()), ("read", pa.string())])
#: Pairs of a range of uids, each once, and how many; and of which archives how many stayed, and how many an earlier run has.
UNIQUE = pa.schema(
    [("range", pa.int32()), ("pairs", pa.binary()), ("length", pa.int64()), ("archives", pa.list_(pa.int32()))]
    + [(ends, pa.list_(pa.int64())) for ends in ("stayed", "before")]
)
#: What a range of uids has of a shard: pairs, of which other ranges have the rest, or the file where it has all of it.
CUT = pa.schema([("shard", pa.int32()), ("pairs", pa.binary()), ("file", pa.string())])
WRITTEN = pa.schema([("shard", pa.int32()), ("file", pa.string())])
#: A pair, with the columns of ``pairs/``.
PAIR = pa.schema(
    [*((name, pa.string()) for name in ("uid", "url", "caption", "page_url", "license", "license_evidence", "language", "archive"))]
    + [("record_offset", pa.int64()), ("link_path", pa.string()), ("source", pa.string())]
)


def opened(recipe: Settings, archives: Sequence[str] | None = None) -> _core.Recipe:
    """The settings, with these archives instead of their own."""
    if recipe is None or isinstance(recipe, Mapping):
        read = _core.Recipe.parse(json.dumps({"archives": [], **(recipe or {})}), "")
    else:
        read = _core.Recipe.read(recipe)
    if archives is None:
        return read
    return _core.Recipe.parse(json.dumps({**json.loads(read.text()), "archives": list(archives)}), read.folder)


def ranges(archives: int) -> int:
    """How many ranges of uids the pairs of so many archives are put into."""
    return min(max(archives, 1), RANGES_MAX)


def sources(recipe: _core.Recipe) -> list[tuple[int | None, list[str]]]:
    """What tasks read: an archive, by its number, or tables of earlier runs, in as many tasks as archives at most."""
    archives, tables = recipe.archives(), recipe.earlier_tables()
    each = -(-len(tables) // max(len(archives), 1))
    before = [(None, tables[at : at + each]) for at in range(0, len(tables), each or 1)]
    return [*before, *((number, [path]) for number, path in enumerate(archives))]


def found(recipe: _core.Recipe, number: int | None, paths: Sequence[str], ranges: int) -> pa.Table:
    """What a task finds in its sources: :data:`FOUND`."""
    if number is None:
        carried, reads = recipe.earlier(paths, ranges), []
    else:
        carried, read = recipe.collect(paths[0], number, ranges)
        reads = [read]
    ranged = [(place, pairs, number, None) for place, pairs in enumerate(carried) if pairs]
    rows = [*ranged, *((None, None, number, read) for read in reads)]
    return _table(list(zip(*rows)) or [[]] * len(FOUND), FOUND)


def unique(found: pa.Table) -> pa.Table:
    """All of a range of uids, deduplicated: :data:`UNIQUE`."""
    pairs, ends = _core.Recipe.deduplicate(found["pairs"].to_pylist())
    archives, stayed, before = zip(*ends) if ends else ([], [], [])
    return _table([[found["range"][0].as_py()], [pairs], [sum(stayed)], [archives], [stayed], [before]], UNIQUE)


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


def cut(unique: pa.Table | pa.RecordBatch, run: str, starts: Mapping[int, int], shard_rows: int) -> pa.Table:
    """Unique pairs cut where shards begin: :data:`CUT`. Whole shards are written, so they need not be carried any more."""
    ranges = zip(unique["range"].to_pylist(), unique["pairs"].to_pylist())
    parts = [part for number, pairs in ranges for part in _core.Recipe.cut(run, pairs, starts[number], shard_rows)]
    return _table(list(zip(*parts)) or [[]] * len(CUT), CUT)


def written(cut: pa.Table, run: str) -> pa.Table:
    """Writes a shard of which these are all parts, unless it is written: :data:`WRITTEN`."""
    shard, file = cut["shard"][0].as_py(), cut["file"][0].as_py()
    return _table([[shard], [file or _core.Recipe.write_pairs(run, shard, cut["pairs"].to_pylist())]], WRITTEN)


def rows(carried: pa.Table | pa.RecordBatch) -> pa.Table:
    """Carried pairs as rows: :data:`PAIR`."""
    pairs = pa.RecordBatchReader.from_stream(_core.Recipe.rows(carried["pairs"].drop_null().to_pylist()))
    return pairs.read_all().cast(PAIR)


@functools.cache
def settle() -> None:
    """Has Python's collector pass over what is imported: Spark's workers have it look at everything after each task, for 30 ms."""
    gc.freeze()


def _table(columns: Sequence[Any], schema: pa.Schema) -> pa.Table:
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, schema)], schema)


#: What a worker has opened, by recipe, run, stages and cards: the model among it.
_here: dict[tuple[Any, ...], _core.Shards] = {}


def shard(recipe: tuple[str, str], run: str, stages: Sequence[str], cards: Sequence[int], number: int) -> list[str]:
    """Takes a shard of a run through stages, and gives the counts of each. ``recipe`` is its text and folder, ``cards`` are the
    CUDA devices that the engine gave the task."""
    key = (recipe, run, tuple(stages), tuple(cards))
    if key not in _here:
        # The library that computes is looked for in the active environment. A worker runs in one without being told.
        os.environ.setdefault("VIRTUAL_ENV", sys.prefix)
        _here[key] = _core.Recipe.parse(*recipe).shards(run, stages, cards)
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
