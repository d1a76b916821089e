"""The stages on Apache Spark: the same Rust functions, an archive or a shard to a task, and Spark's own shuffle between them.

    from laion400m import spark as laion

    spark = laion.session()
    report = laion.build(spark, "s3://bucket/recipe.toml", "s3://bucket/run")

or step by step:

    pairs = laion.collect(spark, ["s3://commoncrawl/crawl-data/.../*.warc.wat.gz"])     # laion.rows(pairs) has a row for each
    shards = laion.shards(pairs, "s3://bucket/run")                                     # run/pairs, a row for each shard
    for stage in (laion.download, laion.embed, laion.filter, laion.pack):
        stage(shards, "s3://bucket/run").show()                                         # what became of the rows

What comes out has the same bytes as on one machine. Tasks may fail, run twice or be given up: what a task writes appears whole,
and is the same whoever writes it. The run folder is an address that all executors reach, or a folder that they share.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import fspath
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark import TaskContext
from pyspark.accumulators import Accumulator, AccumulatorParam
from pyspark.resource import ResourceProfile
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from laion400m import _core, _stages
from laion400m._stages import STAGES, Counters, Path, Settings, Work

#: Java only moves bytes here: its second compiler and its collector of many threads take longer for that than they save.
JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


def session(master: str | None = None, settings: Mapping[str, str] | None = None) -> SparkSession:
    """A session whose Java does as little as the stages need; they run in any other, too.

    ``settings`` are Spark's own. Where Java runs already, as with ``spark-submit``, its driver keeps the options it was started with.
    """
    builder = SparkSession.builder if master is None else SparkSession.builder.master(master)
    java = {f"spark.{of}.extraJavaOptions": JAVA for of in ("driver", "executor")}
    return builder.config(map={**java, **(settings or {})}).getOrCreate()


def collect(spark: SparkSession, paths: Sequence[Path], recipe: Settings = None) -> DataFrame:
    """The pairs of archives, those of an archive and a range of uids together as bytes: :func:`rows` has a row for each.

    ``paths`` are what ``laion400m collect`` takes: files, patterns, addresses, listings.
    """
    opened = _stages.opened(recipe, [fspath(path) for path in paths])
    return _pairs(_collected(spark, opened))


def deduplicate(pairs: DataFrame) -> DataFrame:
    """Each pair once: of equal ones that of the first archive, there the first. Those of a range of uids are together."""
    ranges = _ranges_of(pairs)
    return _ranged(_worked(_by_range(pairs), _stages.unique, _stages.PAIRS), ranges)


def rows(pairs: DataFrame) -> DataFrame:
    """Collected or unique pairs as rows, with the columns of ``pairs/``."""

    def unpack(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from _stages.rows(batch).to_batches()

    return pairs.mapInArrow(unpack, from_arrow_schema(_stages.PAIR))


def shards(pairs: DataFrame, run: Path, recipe: Settings = None) -> DataFrame:
    """Writes pairs into ``run/pairs``, each once as :func:`deduplicate` has it, in the order of their uids, which spreads the hosts. A
    row for each shard."""
    together = _together(pairs)
    written = _write_pairs(together, _ends(together), fspath(run), _stages.opened(recipe).shard_rows)
    return _numbered(pairs.sparkSession, len(written), "shard")


def download(shards: DataFrame, run: Path, recipe: Settings = None) -> DataFrame:
    """Downloads the pairs of shards into ``run/images``. For each shard what became of its rows."""
    return _staged(shards, run, recipe, ["download"])


def embed(shards: DataFrame, run: Path, recipe: Settings = None, profile: ResourceProfile | None = None) -> DataFrame:
    """Embeds the pictures and captions of shards into ``run/embeddings``.

    With a ``profile`` (stage-level scheduling) only these tasks ask for GPUs: a worker opens the model once.
    """
    return _staged(shards, run, recipe, ["embed"], profile)


def filter(shards: DataFrame, run: Path, recipe: Settings = None) -> DataFrame:
    """Judges the rows of shards into ``run/curated``."""
    return _staged(shards, run, recipe, ["filter"])


def pack(shards: DataFrame, run: Path, recipe: Settings = None) -> DataFrame:
    """Packs the kept rows of shards into ``run/packages``: WebDataset, embeddings, metadata."""
    return _staged(shards, run, recipe, ["pack"])


def build(
    spark: SparkSession,
    recipe: Path | Mapping[str, Any],
    run: Path,
    profile: ResourceProfile | None = None,
    counters: Accumulator[Counters] | None = None,
) -> dict[str, Any]:
    """The whole road from archives to packages, index and report, which it gives.

    What a stopped call has done is not done again. ``counters``, from :func:`counters`, tell how far it is meanwhile; a task
    that runs twice is counted twice there, and once in the report.
    """
    opened, folder = _stages.opened(recipe), fspath(run)
    opened.claim(folder)
    context = spark.sparkContext
    context.setJobDescription(f"laion400m: collect {folder}")
    collected = _together(_collected(spark, opened))
    told = collected.where("read is not null").select("archive_number", "read")
    reads = {row.archive_number: row.read for row in told.collect()}
    pairs = _pairs(collected)
    ends = _ends(pairs).persist()
    try:
        of_archives = ends.select(F.explode(F.arrays_zip("archives", "stayed", "before")).alias("of")).groupBy("of.archives")
        totals = of_archives.agg(F.sum("of.stayed").alias("stayed"), F.sum("of.before").alias("before")).collect()
        files = _write_pairs(pairs, ends, folder, opened.shard_rows)
    finally:
        ends.unpersist()
    ends_of = {row.archives: (row.stayed, row.before) for row in totals}
    archives = [(path, reads[number], *ends_of.get(number, (0, 0))) for number, path in enumerate(opened.archives())]
    counts = [opened.finish_pairs(folder, archives, files)]
    context.setJobDescription(f"laion400m: download, embed, filter and pack {folder}")
    done = _staged_by(_numbered(spark, len(files), "shard"), folder, opened, STAGES, profile, counters).collect()
    for stage in STAGES:
        counts.append(_stages.added(json.loads(row.counts) for row in done if row.stage == stage))
    context.setJobDescription(f"laion400m: index {folder}")
    return dict(json.loads(opened.finish(folder, counts)))


class _Counting(AccumulatorParam[Counters]):
    def zero(self, value: Counters) -> Counters:
        return {}

    def addInPlace(self, value1: Counters, value2: Counters) -> Counters:
        for name, count in value2.items():
            value1[name] = value1.get(name, 0) + count
        return value1


def counters(spark: SparkSession) -> Accumulator[Counters]:
    """An accumulator of rows by stage and outcome, such as ``{"download kept": 8123}``."""
    return spark.sparkContext.accumulator({}, _Counting())


def _collected(spark: SparkSession, recipe: _core.Recipe) -> DataFrame:
    """Rows of pairs, and one for each archive that tells what became of it."""
    sources = _stages.sources(recipe)
    ranges = _stages.ranges(len(recipe.archives()), spark.sparkContext.defaultParallelism)
    text, folder = recipe.text(), recipe.folder
    named = spark.sparkContext.broadcast(sources)

    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        _stages.settle()
        opened = _core.Recipe.parse(text, folder)
        for batch in batches:
            for task in batch.column("task").to_pylist():
                number, paths = named.value[task]
                yield from _stages.found(opened, number, paths, ranges)

    return _ranged(_numbered(spark, len(sources), "task").mapInArrow(read, from_arrow_schema(_stages.FOUND)), ranges)


def _numbered(spark: SparkSession, count: int, column: str) -> DataFrame:
    """Numbers from 0 on, each a task of its own. Java counts them: from a list, workers of another kind would have to be started."""
    return spark.range(0, count, 1, max(count, 1)).select(F.col("id").cast("int").alias(column))


def _pairs(found: DataFrame) -> DataFrame:
    return found.where("read is null").select(_stages.PAIRS.names)


def _ranged(pairs: DataFrame, ranges: int) -> DataFrame:
    """Pairs that tell how many ranges of uids there are, for whoever works on each."""
    return pairs.withMetadata("range", {"ranges": ranges})


def _ranges_of(pairs: DataFrame) -> int:
    return int(pairs.schema["range"].metadata["ranges"])


def _by_range(pairs: DataFrame) -> DataFrame:
    return _by(pairs, "range", _ranges_of(pairs))


def _together(pairs: DataFrame) -> DataFrame:
    """Pairs by range of uids, which are looked at twice: what stays is counted before it is written. The shuffle's files are kept
    on disks as they are, for as long as anything refers to them. A cache would write all of it once more, and without one each
    action collects anew; Spark has no public name for that."""
    shuffled = _by_range(pairs)._jdf
    session = pairs.sparkSession
    rows = shuffled.queryExecution().toRdd()
    return DataFrame(session._jsparkSession.internalCreateDataFrame(rows, shuffled.schema(), False), session)


def _ends(pairs: DataFrame) -> DataFrame:
    """What becomes of the pairs of each range of uids. The uids alone are looked at, a sixth of the bytes."""
    return _worked(pairs.select("range", "uids"), _stages.ends, _stages.ENDS)


def _few(spark: SparkSession, tasks: int) -> int:
    """Tasks with as little to do as these are put together, but for what all processors need."""
    return min(tasks, max(tasks // 8, spark.sparkContext.defaultParallelism), _stages.RANGES_MAX)


def _write_pairs(pairs: DataFrame, ends: DataFrame, run: str, shard_rows: int) -> list[str]:
    """Writes the shards of pairs by range, and gives what each file is, in order.

    A pair's place among all follows from the lengths of the ranges before its own and its place there: no task sees more
    than a range, and none has to be done twice with the same split for the result to be the same. Only pairs of shards that lie in
    several ranges are shuffled.
    """
    lengths = ends.select("range", "length").collect()
    starts, total = _stages.starts((row.range, row.length) for row in lengths)
    if total == 0:
        return _stages.nothing(run)

    def cut(pairs: Iterable[pa.RecordBatch]) -> pa.Table:
        return _stages.cut(pairs, run, starts, shard_rows)

    def write(cut: Iterable[pa.RecordBatch]) -> pa.Table:
        return _stages.written(cut, run)

    tasks = _few(pairs.sparkSession, _stages.split(starts, total, shard_rows))
    parts = _by(_worked(pairs, cut, _stages.CUT), "shard", tasks)
    return [row.file for row in sorted(_worked(parts, write, _stages.WRITTEN).collect())]


def _by(rows: DataFrame, column: str, tasks: int) -> DataFrame:
    """All rows of a number in one task. They are spread by the number as it is, and not sorted: as bytes they are large."""
    return rows.repartitionById(max(tasks, 1), column)


def _worked(rows: DataFrame, work: Work, schema: pa.Schema) -> DataFrame:
    """What becomes of all rows of a task."""

    def settled(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        _stages.settle()
        yield from work(batches).to_batches()

    return rows.mapInArrow(settled, from_arrow_schema(schema))


def _staged(
    shards: DataFrame, run: Path, recipe: Settings, stages: Sequence[str], profile: ResourceProfile | None = None
) -> DataFrame:
    """What became of the rows of each shard: eager, so that a stage is done when its function returns."""
    done = _staged_by(shards, fspath(run), _stages.opened(recipe), stages, profile, None)
    rows = []
    for row in done.collect():
        counts = json.loads(row.counts)
        rows.append((row.shard, counts["rows"], counts["kept"], counts["dropped"], counts["failed"]))
    schema = "shard int, rows bigint, kept bigint, dropped map<string, bigint>, failed map<string, bigint>"
    return shards.sparkSession.createDataFrame(sorted(rows), schema)


def _staged_by(
    shards: DataFrame,
    run: str,
    recipe: _core.Recipe,
    stages: Sequence[str],
    profile: ResourceProfile | None,
    counters: Accumulator[Counters] | None,
) -> DataFrame:
    text = (recipe.text(), recipe.folder)

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        _stages.settle()
        for batch in batches:
            for shard in np.asarray(batch.column("shard")).tolist():
                counts = _stages.shard(text, run, stages, _cards(), shard)
                if counters is not None:
                    counters.add(_tallied(stages, counts))
                columns: list[Any] = [pa.array([shard] * len(stages), pa.int32()), pa.array(list(stages)), pa.array(counts)]
                yield pa.RecordBatch.from_arrays(columns, ["shard", "stage", "counts"])

    spread = shards.select("shard")
    return spread.mapInArrow(work, "shard int, stage string, counts string", profile=profile)


def _cards() -> list[int]:
    """The cards that Spark gave the task, as its discovery script numbers them."""
    context = TaskContext.get()
    given = context.resources().get("gpu") if context else None
    addresses = given.addresses if given else []
    if not all(address.isdecimal() for address in addresses):
        raise ValueError(f"the discovery script tells cards that are no numbers of CUDA's: {addresses}")
    return [int(address) for address in addresses]


def _tallied(stages: Sequence[str], counts: Sequence[str]) -> Counters:
    tally: Counters = {}
    for stage, told in zip(stages, counts):
        all_of = json.loads(told)
        tally[f"{stage} kept"] = all_of["kept"]
        for ends in ("dropped", "failed"):
            tally[f"{stage} {ends}"] = sum(all_of[ends].values())
    return tally
