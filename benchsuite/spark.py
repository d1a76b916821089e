"""Archives to unique pairs on Spark, local[2]: cc2dataset end to end against laion400m.spark, and whether the pairs are the same.

usage: spark.py CC2DATASET_PYTHON PYTHON [ARCHIVES], Pythons with cc2dataset, and with pyspark and the wheel (a release build)
"""

import ctypes
import os
import platform
import subprocess
import sys
import tempfile
import time
from multiprocessing.pool import ThreadPool
from pathlib import Path

ARCHIVES = 32
PAGES = 10_000
MASTER = "local[2]"

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

spark = SparkSession.builder.master("local[2]").config("spark.driver.memory", "4G").getOrCreate()
recipe = {"collect": {"rules": "cc2dataset"}}
laion.shards(laion.deduplicate(laion.collect(spark, sys.argv[2:], recipe)), sys.argv[1], recipe)
"""


def measured(python, code, *arguments):
    """CPU seconds of all processes, and seconds: whoever is left behind becomes a child of this process, and is waited for."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    start = time.time()
    told = {**os.environ, "PYSPARK_PYTHON": python, "PYSPARK_DRIVER_PYTHON": python}
    process = subprocess.Popen([python, "-c", code, *map(str, arguments)], env=told, stderr=subprocess.DEVNULL)
    cpu = 0.0
    while True:
        try:
            pid, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return cpu, time.time() - start
        cpu += usage.ru_utime + usage.ru_stime
        assert pid != process.pid or os.waitstatus_to_exitcode(status) == 0, status


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


def main(theirs, ours, archives, folder):
    model = next((line.split(": ")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    print(f"{model or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {MASTER}\n")
    paths = [folder / f"{seed:05}.warc.wat.gz" for seed in range(archives)]
    make = [sys.executable, Path(__file__).with_name("wat.py")]
    with ThreadPool(os.cpu_count()) as pool:
        pool.starmap(
            lambda seed, path: subprocess.run([*make, path, str(PAGES), str(seed)], check=True, stdout=subprocess.DEVNULL),
            enumerate(paths),
        )
    megabytes = sum(path.stat().st_size for path in paths) / 1e6
    print(f"| {archives} archives, {megabytes:.0f} MB | CPU seconds | seconds |\n|---|---|---|")
    cpu = {}
    for name, python, code in [("cc2dataset 1.5.0", theirs, THEIRS), ("laion400m.spark", ours, OURS)]:
        cpu[name], seconds = measured(python, code, folder / name, *paths)
        print(f"| {name} | {cpu[name]:.1f} | {seconds:.0f} |", flush=True)
    nothing = measured(ours, "from pyspark.sql import SparkSession\nSparkSession.builder.master('local[2]').getOrCreate()")[0]
    print(f"| Spark's start alone | {nothing:.1f} | |")
    first, second = cpu.values()
    there, here = uids(ours, folder / "cc2dataset 1.5.0"), uids(ours, folder / "laion400m.spark/pairs")
    same = there == here and len(set(here)) == len(here)
    print(f"\nRatio {first / second:.1f}, without Spark's start {(first - nothing) / (second - nothing):.1f}; {len(here):,} pairs, {'the same' if same else 'NOT THE SAME'}")
    assert same


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else ARCHIVES, Path(temporary))
