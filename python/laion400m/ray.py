"""The stages on Ray Data: the same Rust functions, an archive or a shard to a task, and Ray's own shuffle between them.

    from laion400m import ray as laion

    report = laion.build("s3://bucket/recipe.toml", "s3://bucket/run")

or the pairs alone, as a dataset of Ray's:

    pairs = laion.deduplicate(laion.collect(["s3://commoncrawl/crawl-data/.../*.warc.wat.gz"]))

What comes out has the same bytes as on one machine, and tasks may fail or run twice: see :mod:`laion400m.spark`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from os import fspath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray.data
from ray.data import Dataset

from laion400m import _core, _stages
from laion400m._stages import STAGES, Path, Settings, Work


def collect(paths: Sequence[Path], recipe: Settings = None) -> Dataset:
    """The pairs of archives, those of an archive and a range of uids together as bytes: :func:`rows` has a row for each.

    ``paths`` are what ``laion400m collect`` takes: files, patterns, addresses, listings.
    """
    opened = _stages.opened(recipe, [fspath(path) for path in paths])
    archives = len(opened.archives())
    return _pairs(_collected(opened, _stages.ranges(archives, archives)))


def deduplicate(pairs: Dataset, partitions: int | None = None) -> Dataset:
    """Each pair once: of equal ones that of the first archive, there the first. Those of a range of uids are together.

    ``partitions`` are those of Ray's shuffle.
    """
    return _grouped(pairs, "range", partitions, _stages.unique)


def rows(pairs: Dataset) -> Dataset:
    """Collected or unique pairs as rows, with the columns of ``pairs/``."""
    return pairs.map_batches(_stages.rows, batch_format="pyarrow")


def build(recipe: Path | Mapping[str, Any], run: Path, **resources: Any) -> dict[str, Any]:
    """The whole road from archives to packages, index and report, which it gives.

    What a stopped call has done is not done again, but for collecting. ``resources`` are those of a task that downloads, embeds,
    filters and packs a shard, such as ``num_gpus=1``.
    """
    opened, folder = _stages.opened(recipe), fspath(run)
    opened.claim(folder)
    paths = opened.archives()
    ranges = _stages.ranges(len(paths), len(paths))  # a cluster may grow
    collected = _collected(opened, ranges).materialize()
    reads = {row["archive_number"]: row["read"] for row in collected.map_batches(_told, batch_format="pyarrow").take_all()}
    pairs = _pairs(collected)
    lengths, stayed, before = list[tuple[int, int]](), Counter[int](), Counter[int]()
    for row in _grouped(pairs.select_columns(["range", "uids"]), "range", ranges, _stages.ends).iter_rows():
        lengths.append((row["range"], row["length"]))
        stayed.update(dict(zip(row["archives"], row["stayed"])))
        before.update(dict(zip(row["archives"], row["before"])))
    files = _write_pairs(pairs, ranges, lengths, folder, opened.shard_rows)
    archives = [(path, reads[number], stayed[number], before[number]) for number, path in enumerate(paths)]
    counts = [opened.finish_pairs(folder, archives, files)]
    text = (opened.text(), opened.folder)

    def work(batch: pa.Table) -> pa.Table:
        (number,) = batch["id"].to_pylist()
        cards = range(len(ray.get_gpu_ids()))  # Ray hides the others
        return pa.table({"stage": list(STAGES), "counts": _stages.shard(text, folder, STAGES, cards, number)})

    class Actor:
        """Keeps its card and the model on it: Ray gives up the worker of a task that had one."""

        def __call__(self, batch: pa.Table) -> pa.Table:
            return work(batch)

    numbers = ray.data.range(len(files), override_num_blocks=len(files))
    working = Actor if "num_gpus" in resources else work
    done = numbers.map_batches(working, batch_size=1, batch_format="pyarrow", **resources).take_all()
    for stage in STAGES:
        counts.append(_stages.added(json.loads(row["counts"]) for row in done if row["stage"] == stage))
    return dict(json.loads(opened.finish(folder, counts)))


def _collected(recipe: _core.Recipe, ranges: int) -> Dataset:
    """Rows of pairs, and one for each archive that tells what became of it."""
    sources = _stages.sources(recipe)
    text = (recipe.text(), recipe.folder)

    def read(batch: pa.Table) -> pa.Table:
        (task,) = batch["id"].to_pylist()
        number, paths = sources[task]
        return _stages.found(_core.Recipe.parse(*text), number, paths, ranges).read_all()

    tasks = ray.data.range(len(sources), override_num_blocks=max(len(sources), 1))
    return tasks.map_batches(read, batch_size=1, batch_format="pyarrow")


def _told(found: pa.Table) -> pa.Table:
    return found.filter(pc.field("read").is_valid()).select(["archive_number", "read"])


def _pairs(found: Dataset) -> Dataset:
    pairs = lambda rows: rows.filter(pc.field("read").is_null()).select(_stages.PAIRS.names)
    return found.map_batches(pairs, batch_format="pyarrow")


def _write_pairs(pairs: Dataset, ranges: int, lengths: Sequence[tuple[int, int]], run: str, shard_rows: int) -> list[str]:
    """Writes the shards, and gives what each file is, in order."""
    starts, total = _stages.starts(lengths)
    if total == 0:
        return _stages.nothing(run)

    parts = _grouped(pairs, "range", ranges, lambda pairs: _stages.cut(pairs, run, starts, shard_rows))
    tasks = min(max(_stages.split(starts, total, shard_rows), 1), _stages.RANGES_MAX)
    files = _grouped(parts, "shard", tasks, lambda cut: _stages.written(cut, run)).take_all()
    return [row["file"] for row in sorted(files, key=lambda row: int(row["shard"]))]


def _grouped(rows: Dataset, column: str, tasks: int | None, work: Work) -> Dataset:
    """Works on all rows of each number in one go."""
    return rows.groupby(column, tasks).map_groups(lambda group: work(group.to_batches()), batch_format="pyarrow")
