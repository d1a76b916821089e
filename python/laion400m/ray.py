"""The stages on Ray Data: the same Rust functions, an archive or a shard to a task, and Ray's own shuffle between them.

    from laion400m import ray as laion

    report = laion.build("s3://bucket/recipe.toml", "s3://bucket/run")

or the pairs alone, as a dataset of Ray's:

    pairs = laion.deduplicate(laion.collect(["s3://commoncrawl/crawl-data/.../*.warc.wat.gz"]))

What comes out has the same bytes as on one machine, and tasks may fail or run twice: see :mod:`laion400m.spark`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from os import fspath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray.data
from ray.data import Dataset

from laion400m import _core, _stages
from laion400m._stages import STAGES, Path, Settings

#: Most parts of a shuffle: a task holds one of them in memory, and all together are as many as archives at first.
_PARTS_MAX = 4096


def collect(paths: Sequence[Path], recipe: Settings = None) -> Dataset:
    """The pairs of archives, as often as they were found, with the columns of ``pairs/`` and where they were found.

    ``paths`` are what ``laion400m collect`` takes: files, patterns, addresses, listings. A column ``bucket`` numbers ranges of uids.
    """
    return _pairs(_collected(_stages.opened(recipe, [fspath(path) for path in paths])))


def deduplicate(pairs: Dataset, partitions: int | None = None) -> Dataset:
    """Each pair once: of equal ones that of the first archive, there the first.

    With a column ``place``, that in its bucket in the order of the uids. ``partitions`` are those of Ray's shuffle.
    """
    return pairs.groupby("bucket", partitions).map_groups(_unique, batch_format="pyarrow")


def build(recipe: Path | Mapping[str, Any], run: Path, **resources: Any) -> dict[str, Any]:
    """The whole road from archives to packages, index and report, which it gives.

    What a stopped call has done is not done again, but for collecting. ``resources`` are those of a task that downloads, embeds,
    filters and packs a shard, such as ``num_gpus=1``.
    """
    opened, folder = _stages.opened(recipe), fspath(run)
    opened.claim(folder)
    collected = _collected(opened).materialize()
    reads = {row["archive_number"]: row["read"] for row in collected.map_batches(_told, batch_format="pyarrow").take_all()}
    paths = opened.archives()
    parts = _parts(len(paths))
    unique = deduplicate(_pairs(collected), parts).materialize()
    stayed = dict(_counts(unique, "archive_number", parts))
    files = _write_pairs(unique, folder, opened.shard_rows, parts)
    archives = [(path, reads[number], stayed.get(number, 0)) for number, path in enumerate(paths)]
    counts = [opened.finish_pairs(folder, archives, files)]
    text = (opened.text(), opened.folder)

    def work(batch: pa.Table) -> pa.Table:
        (number,) = batch["id"].to_pylist()
        return pa.table({"stage": list(STAGES), "counts": _stages.shard(text, folder, STAGES, number)})

    numbers = ray.data.range(len(files), override_num_blocks=len(files))
    done = numbers.map_batches(work, batch_size=1, batch_format="pyarrow", **resources).take_all()
    for stage in STAGES:
        counts.append(_stages.added(json.loads(row["counts"]) for row in done if row["stage"] == stage))
    opened.shards(folder).leave_prompts()
    return dict(json.loads(opened.finish(folder, counts)))


def _collected(recipe: _core.Recipe) -> Dataset:
    """A row for each pair, and one for each archive that tells what became of it."""
    archives = recipe.archives()
    text = (recipe.text(), recipe.folder)
    parts = _parts(len(archives))
    starts = np.array([f"{part * 0x10000 // parts:04x}" for part in range(parts)])

    def read(batch: pa.Table) -> pa.Table:
        (number,) = batch["id"].to_pylist()
        rows = pa.Table.from_batches(_stages.archive(_core.Recipe.parse(*text), number, archives[number]))
        digits = pc.utf8_slice_codeunits(pc.fill_null(rows["uid"], "0000"), 0, 4).to_numpy().astype(str)
        return rows.append_column("bucket", pa.array(np.searchsorted(starts, digits, "right") - 1))

    numbers = ray.data.range(len(archives), override_num_blocks=max(len(archives), 1))
    return numbers.map_batches(read, batch_size=1, batch_format="pyarrow")


def _parts(tasks: int) -> int:
    return min(max(tasks, 1), _PARTS_MAX)


def _counts(rows: Dataset, column: str, parts: int) -> list[tuple[int, int]]:
    counted = rows.select_columns(column).groupby(column, parts).count()
    return sorted((row[column], row["count()"]) for row in counted.take_all())


def _told(found: pa.Table) -> pa.Table:
    return found.filter(pc.field("read").is_valid()).select(["archive_number", "read"])


def _pairs(found: Dataset) -> Dataset:
    return found.map_batches(
        lambda rows: rows.filter(pc.field("read").is_null()).drop_columns("read"), batch_format="pyarrow"
    )


def _unique(bucket: pa.Table) -> pa.Table:
    bucket = bucket.sort_by([(name, "ascending") for name in ("uid", "archive_number", "position")])
    uids = np.asarray(bucket["uid"])
    first = np.concatenate([[True], uids[1:] != uids[:-1]])
    unique = bucket.filter(pa.array(first))
    return unique.append_column("place", pa.array(range(len(unique)), pa.int64()))


def _write_pairs(unique: Dataset, run: str, shard_rows: int, parts: int) -> list[str]:
    """Writes the shards, and gives what each file is, in order."""
    lengths = _counts(unique, "bucket", parts)
    if not lengths:
        return [_core.Recipe.write_no_pairs(run)]
    buckets, counts = (np.array(column, np.int64) for column in zip(*lengths))
    before = counts.cumsum() - counts

    def placed(rows: pa.Table) -> pa.Table:
        place = before[np.searchsorted(buckets, rows["bucket"])] + rows["place"].to_numpy()
        return rows.select(_stages.PAIR.names).append_column("shard", pa.array(place // shard_rows))

    def write(rows: pa.Table) -> pa.Table:
        shard = rows["shard"][0].as_py()
        pairs = rows.sort_by("uid").select(_stages.PAIR.names).cast(_stages.PAIR)
        return pa.table({"shard": [shard], "file": [_core.Recipe.write_pairs(run, shard, pairs)]})

    shards = _parts(-(-int(counts.sum()) // shard_rows))
    written = unique.map_batches(placed, batch_format="pyarrow").groupby("shard", shards).map_groups(write, batch_format="pyarrow")
    return [row["file"] for row in sorted(written.take_all(), key=lambda row: row["shard"])]
