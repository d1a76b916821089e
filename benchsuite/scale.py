"""Collects pairs by the ten million and more: CPU, memory, and bytes on the disk.

usage: scale.py PROGRAM ENDLESS_CRAWL FOLDER [ARCHIVES PAIRS_OF_AN_ARCHIVE]...,
where ENDLESS_CRAWL is `cargo build --release -p pipeline --example endless_crawl`
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

SIZES = [(1, 10_000), (10, 10_000), (100, 10_000), (1000, 10_000), (100, 1_000_000)]
#: Pairs up to which the median of several runs is told.
SHORT, ROUNDS = 1_000_000, 11
#: Runs of one pair, whose median is the cost of a start.
ROUNDS_BEGIN = 21


def used(folder):
    """Bytes of all files of a folder; files may go meanwhile."""
    total = 0
    for path, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.stat(os.path.join(path, name)).st_size
            except FileNotFoundError:
                pass
    return total


def collect(program, crawl, folder, archives, pairs):
    """CPU seconds, peak memory in MB, seconds, most bytes on the disk, bytes of the shards, and unique pairs."""
    server = subprocess.Popen([crawl, str(pairs)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    address = server.stdout.readline().strip()
    shutil.rmtree(folder, ignore_errors=True)
    inputs = [f"{address}/{number}" for number in range(archives)]
    start, most, ended = time.time(), 0, threading.Event()

    def watch():
        nonlocal most
        # Not a moment longer than the run: a machine that has idled for two seconds is slower at first, by half for short runs.
        while not ended.wait(2):
            most = max(most, used(folder))

    watcher = threading.Thread(target=watch)
    watcher.start()
    command = [program, "collect", *inputs, "-o", str(folder), "--rules", "cc2dataset", "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    ended.set()
    watcher.join()
    server.communicate()
    assert process.returncode == 0
    counts = json.loads((folder / "pairs.json").read_text())
    unique = (archives - 1) * (pairs - pairs // 5) + pairs
    assert counts["kept"] == unique and counts["dropped"].get("duplicate", 0) == archives * pairs - unique, counts
    shards = used(folder)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, time.time() - start, max(most, shards), shards, unique


def main(program, crawl, folder, sizes):
    model = next((line.split(": ")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    print(f"{model or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    begin = sorted(collect(program, crawl, folder, 1, 1)[0] for _ in range(ROUNDS_BEGIN))[ROUNDS_BEGIN // 2]
    print(f"A run of one pair takes {begin * 1e3:.0f} ms of CPU. They are taken off what a pair costs.\n")
    print("| pairs | unique | CPU seconds | µs a pair | seconds | memory, MB | most on disk, GB | shards, GB |")
    print("|---|---|---|---|---|---|---|---|")
    for archives, pairs in sizes:
        total = archives * pairs
        rounds = ROUNDS if total <= SHORT else 1
        runs = sorted(collect(program, crawl, folder, archives, pairs) for _ in range(rounds))
        cpu, memory, seconds, most, shards, unique = runs[rounds // 2]
        each = (cpu - begin) / total * 1e6
        print(f"| {total:,} | {unique:,} | {cpu:.3g} | {each:.2f} | {seconds:.0f} | {memory:.0f} | {most / 1e9:.2f} | {shards / 1e9:.2f} |", flush=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    numbers = list(map(int, sys.argv[4:]))
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), list(zip(numbers[::2], numbers[1::2])) or SIZES)
