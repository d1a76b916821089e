"""What a second core gives: collecting, downloading and embedding the same on one core and on two.

usage: scaling.py PROGRAM, in a venv with requirements-download.txt

Pictures come from a server on the same cores, so that the network is not the limit and no core helps unseen. How much the machine
itself gives is measured, too: a run on each core at once, against one alone.
"""

import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from download import PORTS, draw, served

ROUNDS = 3
ARCHIVES, PAGES = 4, 10_000
#: A run of 2,000 pictures is over before its start and its end are nothing to speak of.
DRAWN, ROWS, EMBEDDED, LISTS = 300, 8_000, 2_000, 4
FIRST, BOTH = {0}, {0, 1}


def start(command, cores):
    return subprocess.Popen(
        [str(part) for part in command],
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def seconds(*commands):
    """How long commands take side by side, each with its cores."""
    begun = time.perf_counter()
    running = [start(command, cores) for command, cores in commands]
    assert all(process.wait() in (0, 1) for process in running), commands
    return time.perf_counter() - begun


def main(program):
    model = next((line.split(": ")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        draw(folder, DRAWN)
        server = served(folder)
        try:
            print(f"{model or platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the start; ", end="")
            print(f"medians of {ROUNDS} rounds\n")
            compare(program, folder, server)
        finally:
            server.kill()


def written(folder, rows):
    """Lists of so many pictures together."""
    paths = [folder / f"list-{rows}-{number}.csv" for number in range(LISTS)]
    for number, path in enumerate(paths):
        urls = [f"http://127.0.0.1:{PORTS['http']}/{i % DRAWN}.jpg?i={number}.{i}" for i in range(rows // LISTS)]
        path.write_text("url,caption\n" + "".join(f"{url},picture {i}\n" for i, url in enumerate(urls)))
    return paths


def compare(program, folder, server):
    archives = [folder / f"{seed}.warc.wat.gz" for seed in range(ARCHIVES)]
    wat = [sys.executable, Path(__file__).with_name("wat.py")]
    assert seconds(*(([*wat, path, PAGES, seed], BOTH) for seed, path in enumerate(archives)))
    lists, few = written(folder, ROWS), written(folder, EMBEDDED)
    runs = iter(range(1_000_000))

    def output():
        for before in folder.glob("out-*"):
            if before.stat().st_mtime < time.time() - 60:
                shutil.rmtree(before)
        return folder / f"out-{next(runs)}"

    def collect():
        return [program, "collect", *archives, "-o", output(), "--quiet"]

    def download(lists=lists, into=None):
        options = ["--caption-col", "caption", "--allow-private", "--quiet", "--image-bytes-min", "0", "--host-concurrency", "64"]
        return [program, "download", *lists, "-o", into or output(), *options]

    pictures = folder / "downloaded"
    seconds((download(few, pictures), BOTH))

    def embed():
        return [program, "embed", pictures, "-o", output(), "--quiet"]

    print("| | one core, s | two cores, s | ratio | ratio of two runs side by side |\n|---|---|---|---|---|")
    for stage in (collect, download, embed):
        one, two, beside = [], [], []
        for _ in range(ROUNDS):
            os.sched_setaffinity(server.pid, FIRST)
            one.append(seconds((stage(), FIRST)))
            os.sched_setaffinity(server.pid, BOTH)
            two.append(seconds((stage(), BOTH)))
            beside.append(seconds((stage(), {0}), (stage(), {1})))
        first, second, side = map(statistics.median, (one, two, beside))
        print(f"| {stage.__name__} | {first:.2f} | {second:.2f} | {first / second:.2f} | {2 * first / side:.2f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
