"""Archives to unique pairs on Spark, local[2]: cc2dataset end to end against laion400m.spark, and whether the pairs are the same.

usage: spark.py CC2DATASET_PYTHON PYTHON [ARCHIVES [FOLDER]]

Pythons with cc2dataset, and with pyspark and the wheel (a release build). FOLDER keeps the archives for another time. Each is measured
in the session that it makes itself, and each with the other's Java: ours compiles little, and tidies up with one thread.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from multiprocessing.pool import ThreadPool
from pathlib import Path

ARCHIVES = 48
#: One of Common Crawl's has as many pairs as four of ``wat.py``, one behind the other.
PARTS, PAGES = 4, 10_000
MASTER = "local[2]"
#: Of ``laion400m.spark.session``.
LITTLE = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


def make(path, number):
    """Makes an archive, which appears whole."""
    if path.exists():
        return
    begun, part = path.with_suffix(".begun"), path.with_suffix(".part")
    with begun.open("wb") as archive:
        for seed in range(number * PARTS, (number + 1) * PARTS):
            command = [sys.executable, Path(__file__).with_name("wat.py"), part, str(PAGES), str(seed)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            with part.open("rb") as content:
                shutil.copyfileobj(content, archive)
    part.unlink()
    begun.rename(path)


#: cc2dataset's own part of a crawl, whose archives are here instead of at Common Crawl.
THEIRS = """
import sys
from cc2dataset import main
from cc2dataset.spark_session_builder import build_spark_session
from loguru import logger

logger.remove()
paths, output = sys.argv[2:], sys.argv[1]
there = main.process_wat
main.process_wat = lambda path, kind: there(path.removeprefix("https://data.commoncrawl.org/"), kind)
main.process_one_part(output, paths, lambda: build_spark_session("local", 2, 4), False, "image", "http")
"""

OURS = """
import sys
from pyspark.sql import SparkSession
from laion400m import spark as laion

settings = {"spark.driver.memory": "4G"}
little = sys.argv[1] == "little"
spark = laion.session("local[2]", settings) if little else SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
if len(sys.argv) > 2:
    recipe = {"collect": {"rules": "cc2dataset"}}
    laion.shards(laion.collect(spark, sys.argv[3:], recipe), sys.argv[2], recipe)
"""


def measured(java, python, code, *arguments):
    """CPU seconds of all processes, and seconds. A control group (version 2, for which one has to be root) counts them: nobody waits
    for Spark's Python workers when they end, so no parent's times have theirs."""
    mounts = [line.split() for line in open("/proc/mounts")]
    group = Path(next(mount[1] for mount in mounts if mount[2] == "cgroup2")) / f"laion400m-{os.getpid()}"
    group.mkdir()
    start = time.time()
    subprocess.run(
        [python, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYSPARK_PYTHON": python, "PYSPARK_DRIVER_PYTHON": python, "JAVA_TOOL_OPTIONS": java},
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())),
        check=True,
    )
    seconds = time.time() - start
    while "populated 1" in (group / "cgroup.events").read_text():
        time.sleep(0.1)
    used = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
    group.rmdir()
    return int(used["usage_usec"]) / 1e6, seconds


#: Prints the uids of a folder of tables, sorted.
UIDS = """
import sys
from pathlib import Path
import pyarrow.parquet as pq

tables = Path(sys.argv[1]).glob("*.parquet")
print("\\n".join(sorted(uid for table in tables for uid in pq.read_table(table, columns=["uid"])["uid"].to_pylist())))
"""


def uids(python, folder):
    found = subprocess.run([python, "-c", UIDS, folder], check=True, stdout=subprocess.PIPE, text=True)
    return found.stdout.split()


def main(theirs, ours, archives, folder, kept):
    model = next((line.split(": ")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    print(f"{model or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {MASTER}\n")
    paths = [kept / f"{number:05}.warc.wat.gz" for number in range(archives)]
    with ThreadPool(os.cpu_count()) as pool:
        pool.starmap(make, zip(paths, range(archives)))
    megabytes = sum(path.stat().st_size for path in paths) / 1e6
    print(f"| {archives} archives, {megabytes:.0f} MB | Java | CPU seconds | seconds |\n|---|---|---|---|")
    there, here = folder / "theirs", folder / "ours"
    runs = {
        ("cc2dataset 1.5.0", "as it is"): ("", theirs, THEIRS, there, *paths),
        ("laion400m.spark", "does little"): ("", ours, OURS, "little", here, *paths),
        ("laion400m.spark", "as it is"): ("", ours, OURS, "much", here, *paths),
        ("laion400m.spark's start", "does little"): ("", ours, OURS, "little"),
        ("laion400m.spark's start", "as it is"): ("", ours, OURS, "much"),
        ("cc2dataset 1.5.0", "does little"): (LITTLE, theirs, THEIRS, there, *paths),
    }
    cpu = {}
    for (name, java), run in runs.items():
        for output in {there, here}.intersection(run):
            shutil.rmtree(output, ignore_errors=True)
        cpu[name, java], seconds = measured(*run)
        print(f"| {name} | {java} | {cpu[name, java]:.1f} | {seconds:.0f} |", flush=True)
    there, here = uids(ours, there), uids(ours, here / "pairs")
    same = there == here and len(set(here)) == len(here)
    print(f"\n{len(here):,} pairs, {'the same' if same else 'NOT THE SAME'}")
    first = {java: cpu["cc2dataset 1.5.0", java] for java in ("as it is", "does little")}
    for java in first:
        second, start = cpu["laion400m.spark", java], cpu["laion400m.spark's start", java]
        print(
            f"laion400m.spark, {java}: {min(first.values()) / second:.1f} times less than the better one of cc2dataset's, "
            f"{first[java] / second:.1f} than with the same Java, {(first[java] - start) / (second - start):.1f} without Spark's start"
        )
    assert same


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        archives = int(sys.argv[3]) if len(sys.argv) > 3 else ARCHIVES
        kept = Path(sys.argv[4] if len(sys.argv) > 4 else temporary)
        main(sys.argv[1], sys.argv[2], archives, Path(temporary), kept)
