"""Vector indices on the same rows and queries: faiss, usearch and ours, recall of the ten nearest against queries a CPU second.

usage: index.py FOLDER [-w WORK] [-o TABLE.md] [--only NAME …] [--again] [--ours PROGRAM EXAMPLE], in a venv with
requirements-index.txt. FOLDER is what vectors.py writes. WORK keeps the built indices and what was measured, so that a second run takes
up where the first ended; `--again` measures all searches again. PROGRAM is laion400m, EXAMPLE the example `search_speed` of crates/laion400m.

All run on one thread. Rows are read part by part, so that what a build holds is its own; building and searching are processes of
their own, for their memory. All queries of a set are given in one call, which is to the advantage of faiss and usearch: a server has
them one by one. Of each setting the median of ROUNDS rounds counts; between two settings rates are interpolated. "Resident" is anonymous memory after the queries, without what
Python had before: what is mapped from files is told apart. Where candidates are re-ranked by the float16 rows, these are mapped.

The OpenBLAS in faiss's wheel is of 2021 and takes newer processors for a Pentium 4, four times slower: it is told what it has.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"
with open("/proc/cpuinfo", encoding="utf-8") as lines:
    FLAGS = next((line.split() for line in lines if line.startswith("flags")), [])
for flag, core in (("avx512bw", "SkylakeX"), ("avx2", "Haswell")):
    if flag in FLAGS:
        os.environ.setdefault("OPENBLAS_CORETYPE", core)

import argparse
import itertools
import json
import platform
import resource
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import usearch.index
from vectors import DIMENSIONS, PART, parts

ROUNDS, LONG = 3, 3.0
QUERIES = 1_000
ENOUGH, SHOWN = 0.985, (0.90, 0.95, 0.98)
TRAINED_ON = 40
METRIC = faiss.METRIC_INNER_PRODUCT


def memory():
    """Anonymous and mapped resident bytes of this process."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return np.array([int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile")])


def in_child(run, *arguments):
    """What `run` returns in a process of its own, and the most that it held, in bytes."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            os.write(writer, json.dumps(run(*arguments)).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    _, status, usage = os.wait4(child, 0)
    if status:
        raise RuntimeError(f"{run.__qualname__} failed")
    return json.loads(text), usage.ru_maxrss * 1024


def rows_of(folder):
    for path, start in parts(folder):
        rows = np.load(path, mmap_mode="r")
        for block in range(0, len(rows), PART // 4):
            yield start + block, rows[block : block + PART // 4]


def sample(folder, wanted):
    """Rows for training, evenly out of all parts."""
    count = sum(len(np.load(path, mmap_mode="r")) for path, _ in parts(folder))
    step = max(1, count // wanted)
    return np.concatenate([np.load(path, mmap_mode="r")[-start % step :: step].astype(np.float32) for path, start in parts(folder)])


@dataclass
class Faiss:
    """An index out of faiss's factory; with `refine` its candidates are ranked again by float16 rows."""

    factory: str
    lists: int = 0
    refine: bool = False
    efs: tuple = ()
    probes: tuple = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
    factors: tuple = (2, 4, 10)

    def build(self, folder, path):
        start = time.process_time()
        index = faiss.index_factory(DIMENSIONS, self.factory.format(self.lists), METRIC)
        if not index.is_trained:
            index.train(sample(folder, max(TRAINED_ON * self.lists, 65_536)))
        for _, rows in rows_of(folder):
            index.add(rows.astype(np.float32))
        cost = time.process_time() - start
        faiss.write_index(index, str(path))
        rows = path.parent / "rows.faiss"
        if self.refine and not rows.exists():
            flat = faiss.IndexScalarQuantizer(DIMENSIONS, faiss.ScalarQuantizer.QT_fp16, METRIC)
            flat.train(np.zeros((1, DIMENSIONS), np.float32))
            for _, part in rows_of(folder):
                flat.add(part.astype(np.float32))
            faiss.write_index(flat, str(rows))
        return cost

    def open(self, path):
        self.base = faiss.read_index(str(path))
        self.index = self.base
        if self.refine:
            self.rows = faiss.read_index(str(path.parent / "rows.faiss"), faiss.IO_FLAG_MMAP_IFC)
            self.index = faiss.IndexRefine(self.base, self.rows)

    def settings(self):
        if self.efs:
            return [{"ef": ef} for ef in self.efs]
        if not self.lists:
            return [{}]
        probes = [{"probes": probes} for probes in self.probes if probes <= self.lists]
        return [probe | {"factor": factor} for factor in self.factors for probe in probes] if self.refine else probes

    def search(self, queries, ef=None, probes=None, factor=None):
        if ef:
            self.index.hnsw.efSearch = ef
        if probes:
            faiss.extract_index_ivf(self.base).nprobe = probes
        if factor:
            self.index.k_factor = factor
        return self.index.search(queries, 10)[1]


@dataclass
class Usearch:
    dtype: str
    view: bool = False
    expansions: tuple = (16, 32, 64, 128, 256, 512, 1024)

    def build(self, folder, path):
        start = time.process_time()
        index = usearch.index.Index(ndim=DIMENSIONS, metric="ip", dtype=self.dtype)
        for first, rows in rows_of(folder):
            index.add(np.arange(first, first + len(rows)), np.ascontiguousarray(rows), threads=1)
        cost = time.process_time() - start
        index.save(str(path))
        return cost

    def open(self, path):
        self.index = usearch.index.Index.restore(str(path), view=self.view)

    def settings(self):
        return [{"expansion": expansion} for expansion in self.expansions]

    def search(self, queries, expansion):
        self.index.expansion_search = expansion
        return self.index.search(queries, 10, threads=1).keys


def indices(count):
    """The candidates by their names, and whose build each takes; lists by the usual four to sixteen roots of the count."""
    lists = 512 if count < 300_000 else 4096
    efs = (16, 32, 64, 128, 256, 512, 1024)
    usearch_f16 = Usearch("f16")
    return {
        "faiss Flat f32": Faiss("Flat"),
        "faiss HNSW32, SQfp16": Faiss("HNSW32_SQfp16", efs=efs),
        "faiss HNSW16, SQ8": Faiss("HNSW16_SQ8", efs=efs),
        f"faiss IVF{lists}, SQ8": Faiss("IVF{},SQ8", lists),
        f"faiss IVF{lists}, PQ256, rows": Faiss("IVF{},PQ256", lists, True),
        f"faiss IVF{lists}, PQ512x4fs, rows": Faiss("IVF{},PQ512x4fs", lists, True),
        f"faiss OPQ64_256, IVF{lists}, PQ64x4fs, rows": Faiss("OPQ64_256,IVF{},PQ64x4fs", lists, True, factors=(10, 30, 100)),
        f"faiss IVF{lists}, RaBitQ, rows": Faiss("IVF{},RaBitQ", lists, True, factors=(4, 10, 30)),
        f"faiss IVF{lists}, RaBitQ of 4 bits, rows": Faiss("IVF{},RaBitQ4", lists, True),
        "usearch f16": usearch_f16,
        "usearch f16, mapped": Usearch("f16", view=True),
    }


def curve(measured):
    """Settings that no other beats in both recall and rate."""
    best, kept = 0, []
    for point in sorted(measured, key=lambda point: (-point["recall"], -point["rate"])):
        if point["rate"] > best:
            best = point["rate"]
            kept.append(point)
    return kept[::-1]


def searched(index, path, folder):
    before = memory()
    start = time.monotonic()
    index.open(path)
    answer = {"open_seconds": time.monotonic() - start}
    for name in ("image", "text"):
        queries = np.load(folder / f"queries_{name}.npy")[:QUERIES]
        truth = np.load(folder / f"truth_{name}.npy")[:QUERIES, :10]
        measured = []
        settings = index.settings()
        for _, group in itertools.groupby(settings, key=lambda setting: setting.get("factor")):
            last = -1.0
            for setting in group:
                costs = []
                while len(costs) < ROUNDS and sum(costs) < LONG:
                    start = time.process_time()
                    found = index.search(queries, **setting)
                    costs.append(time.process_time() - start)
                hits = (found[:, :, None].astype(np.int64) == truth[:, None, :]).any(2).sum()
                recall = float(hits / truth.size)
                measured.append({"recall": recall, "rate": len(queries) / statistics.median(costs), "setting": setting})
                if recall > ENOUGH or recall < last + 0.0005:
                    break
                last = recall
        answer[name] = curve(measured)
    answer["resident"], answer["mapped"] = (memory() - before).tolist()
    return answer


def ours(folder, work, program, example):
    """Our index, built by the program and searched by the example, which both are processes of their own. The build makes
    lists for images and for texts, finds out how many to look at, and indexes the tables."""
    path = work / "ours"
    if not path.exists():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([program, "index", folder, "-o", path], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cost = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        (work / "ours.json").write_text(json.dumps({"build": cost, "peak": after.ru_maxrss * 1024}))
    result = json.loads((work / "ours.json").read_text())
    result["disk"] = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    for name in ("image", "text"):
        probes = [str(1 << power) for power in range(2, 11)]
        run = [example, path, folder / f"queries_{name}.npy", folder / f"truth_{name}.npy", *probes]
        lines = subprocess.run(run, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        result[name] = curve(
            {"recall": point["recall"], "rate": point["queries_per_cpu_second"], "setting": {"probes": point["probes"]}} for point in found
        )
        result["resident"] = max(point["resident_bytes"] for point in found)
    return result


def at(points, recall):
    """The rate at a recall: between the two settings around it, on the logarithm of the rate."""
    enough = [point for point in points if point["recall"] >= recall]
    below = [point for point in points if point["recall"] < recall]
    if not enough:
        return "–"
    upper = enough[0]
    if not below:
        return f"{upper['rate']:,.0f}"
    lower = below[-1]
    share = (recall - lower["recall"]) / (upper["recall"] - lower["recall"])
    return f"{lower['rate'] * (upper['rate'] / lower['rate']) ** share:,.0f}"


def row(name, result, count):
    sizes = [f"{result['resident'] / count:,.0f}", f"{result['disk'] / count:,.0f}", f"{result['peak'] / 1e6:,.0f}"]
    rates = [at(result[queries], recall) for queries in ("image", "text") for recall in SHOWN]
    return "| " + " | ".join([name, f"{result['build']:,.0f}", *sizes, *rates]) + " |"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("-w", "--work", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--only", action="append")
    parser.add_argument("--again", action="store_true", help="search again what was measured before")
    parser.add_argument("--ours", nargs=2)
    arguments = parser.parse_args()
    folder, work = arguments.folder, arguments.work or Path(f"{arguments.folder}-indices")
    work.mkdir(exist_ok=True)
    faiss.omp_set_num_threads(1)
    count = sum(len(np.load(path, mmap_mode="r")) for path, _ in parts(folder))
    heads = [f"{queries} {recall:.2f}" for queries in ("image", "text") for recall in SHOWN]
    head = [
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start, one thread each; faiss {faiss.__version__}"
        f" ({faiss.get_compile_options().split()[-1]}), usearch {usearch.__version__}; {count:,} rows; medians of {ROUNDS} rounds",
        "",
        "Queries a CPU second at a recall@10 of …; bytes are a row's; build and peak (MB) are of one thread.",
        "",
        "| index | build CPU s | resident | on disk | peak MB |" + "".join(f" {name} |" for name in heads),
        "|---|" + "---|" * (4 + len(heads)),
    ]
    print("\n".join(head), flush=True)
    results = {}
    for name, index in indices(count).items():
        if arguments.only and not any(only in name for only in arguments.only):
            continue
        path = work / f"{name.removesuffix(', mapped').replace(', ', '-').replace(' ', '-')}.index"
        known = path.with_suffix(".json")
        if not known.exists():
            cost, peak = in_child(index.build, folder, path)
            known.write_text(json.dumps({"build": cost, "peak": peak}))
        measured = work / f"{name.replace(', ', '-').replace(' ', '-')}.measured.json"
        if arguments.again or not measured.exists():
            result, _ = in_child(searched, index, path, folder)
            rows = 2 * DIMENSIONS * count if getattr(index, "refine", False) else 0
            measured.write_text(json.dumps(result | {"disk": path.stat().st_size + rows}))
        results[name] = result = json.loads(measured.read_text()) | json.loads(known.read_text())
        print(row(name, result, count), flush=True)
    if arguments.ours:
        results["laion400m"] = ours(folder, work, *arguments.ours)
        print(row("laion400m", results["laion400m"], count), flush=True)
    if arguments.output:
        lines = [*head, *(row(name, result, count) for name, result in results.items()), "", "Best settings of each:", ""]
        for name, result in results.items():
            for queries in ("image", "text"):
                points = (f"{point['recall']:.3f} → {point['rate']:,.0f} ({', '.join(f'{key} {value}' for key, value in point['setting'].items())})" for point in result[queries])
                lines.append(f"- {name}, {queries}: {'; '.join(points)}")
        arguments.output.write_text("\n".join(lines) + "\n")
        arguments.output.with_suffix(".json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
