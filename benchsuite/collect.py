"""Finds the pairs of a WAT archive with cc2dataset, with the parser of LAION-400M's workers, and with ours.

usage: collect.py PROGRAM EXTRACT [FOLDER], where EXTRACT is `cargo build --release -p pipeline --example extract`
"""

import gzip
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS = 5
PAGES = 10_000
SEED = 7
DOCUMENTS = ["image", "image_only", "audio", "video", "text"]


def cc2dataset(archive, documents):
    """Its `process_wat`, all rows in a list."""
    from cc2dataset import process_wat
    from loguru import logger

    logger.remove()
    return list(process_wat(archive, documents))


def worker(archive):
    """The rules of crawlingathome's worker of August 2021: any link with an alt, ftfy, pycld2, substrings."""
    import ftfy
    import pycld2
    import ujson
    from urllib.parse import urljoin

    refused = (".svg", ".gif", ".ico", "data:image", "javascript:", "mailto:")
    rows = []
    with gzip.open(archive, "rt", errors="replace") as lines:
        for line in lines:
            if "IMG@" not in line:
                continue
            envelope = ujson.loads(line)["Envelope"]
            base = os.path.dirname(envelope["WARC-Header-Metadata"]["WARC-Target-URI"])
            license = "?"
            for link in envelope["Payload-Metadata"]["HTTP-Response-Metadata"]["HTML-Metadata"]["Links"]:
                if "url" not in link:
                    continue
                if "creativecommons.org/licenses/" in link["url"]:
                    license = link["url"]
                if not link.get("alt"):
                    continue
                text = ftfy.fix_text(link["alt"].replace("\n", " ")).strip()
                try:
                    language = pycld2.detect(text)[2][0][1]
                except pycld2.error:
                    language = pycld2.detect("".join(letter for letter in text if letter.isprintable()))[2][0][1]
                if language != "en":
                    continue
                url = link["url"] if link["url"].startswith("http") else urljoin(base, link["url"])
                if any(part in url.lower() for part in refused):
                    continue
                rows.append((url, text, license, hashlib.md5((url + text).encode()).hexdigest()))
    return rows


def measured(command):
    """CPU seconds and peak memory in MB of a command."""
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def python(function, *arguments):
    return [sys.executable, __file__, "--peer", function, *arguments]


def same_rows(program, archive, folder):
    """The uids of every document type, theirs and ours."""
    import pyarrow.parquet as pq

    for documents in DOCUMENTS:
        theirs = sorted({row[0] for row in cc2dataset(str(archive), documents)})
        ours = folder / f"pairs-{documents}"
        command = [program, "collect", archive, "-o", ours, "--rules", "cc2dataset", "--documents", documents, "--quiet"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        shards = sorted(ours.glob("*.parquet"))
        uids = [uid for shard in shards for uid in pq.read_table(shard, columns=["uid"])["uid"].to_pylist()]
        assert uids == theirs, documents
        print(f"{documents}: {len(uids):,} unique rows, the same", flush=True)


def main(program, extract, folder):
    model = next((line.split(": ")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    print(f"{model or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; medians of {ROUNDS} rounds\n")
    archive = folder / "pages.warc.wat.gz"
    subprocess.run([sys.executable, Path(__file__).with_name("wat.py"), archive, str(PAGES), str(SEED)], check=True, stdout=subprocess.DEVNULL)
    # In a process of its own: the peak memory of a child is at least that of its parent.
    subprocess.run([sys.executable, __file__, "--same-rows", program, archive, folder], check=True)
    megabytes = archive.stat().st_size / 1e6

    def collect(rules):
        return [program, "collect", archive, "-o", folder / "pairs", "--rules", rules, "--quiet"]

    commands = {
        "inflating and framing alone": [extract, archive, "inflate"],
        "cc2dataset 1.5.0, rows in memory": python("cc2dataset", archive, "image"),
        "laion400m, rules of cc2dataset, rows in memory": [extract, archive, "cc2dataset"],
        "laion400m, rules of cc2dataset, deduplicated shards": collect("cc2dataset"),
        "LAION-400M's worker, rows in memory": python("worker", archive),
        "laion400m, its own rules, rows in memory": [extract, archive, "laion400m"],
        "laion400m, its own rules, deduplicated shards": collect("laion400m"),
    }
    rounds = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            subprocess.run(["rm", "-rf", folder / "pairs"], check=True)
            rounds[name].append(measured(command))
    imports = statistics.median(measured(python(name, "/dev/null"))[0] for name in ["imports"] * ROUNDS)
    print("\n| 55 MB of WAT | CPU seconds | MB of gzip per CPU second | peak memory, MB |\n|---|---|---|---|")
    for name, results in rounds.items():
        cpu, memory = (statistics.median(column) for column in zip(*results))
        # What Python takes to import its modules is not their fault.
        cpu -= imports if "--peer" in map(str, commands[name]) else 0
        print(f"| {name} | {cpu:.2f} | {megabytes / cpu:.1f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--peer":
        import cc2dataset as _, ftfy as _, pycld2 as _, ujson as _  # noqa: F401

        rows = {"cc2dataset": cc2dataset, "worker": worker, "imports": lambda *_: []}[sys.argv[2]](*sys.argv[3:])
        print(json.dumps(len(rows)))
    elif sys.argv[1] == "--same-rows":
        same_rows(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    elif len(sys.argv) > 3:
        folder = Path(sys.argv[3])
        folder.mkdir(parents=True, exist_ok=True)
        main(sys.argv[1], sys.argv[2], folder)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(sys.argv[1], sys.argv[2], Path(temporary))
