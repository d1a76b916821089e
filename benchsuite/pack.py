"""Packs LAION-400M's own files with TFDS's builder and with ours. usage: pack.py PROGRAM [FOLDER]"""

import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 5
SHARDS = 5
PER_SHARD = {"images": 1000, "embeddings": 10_000}


def measured(command):
    """Seconds, CPU seconds and peak memory in MB of a command."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def tfds_builder(config, source, data):
    """Runs the real builder and prints what `download_and_prepare` alone took: imports are not its fault."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow_datasets as tfds
    from etils import epath
    from tensorflow_datasets.vision_language.laion400m import laion400m as builder

    source = epath.Path(source)
    builder.LAION400M_IMAGES_CONFIG.num_shards = SHARDS
    builder.LAION400M_EMBEDDINGS_CONFIG.num_shards = SHARDS
    names = [name for shard in range(SHARDS) for name in builder._get_embeddings_file_names(shard)]
    # The download is all that is replaced.
    builder.Laion400m._download_data = lambda self, manager: {name: source / name for name in names}
    dataset = tfds.builder(f"laion400m/{config}", data_dir=data)
    options = tfds.download.DownloadConfig(manual_dir=str(source), beam_runner="DirectRunner", try_download_gcs=False)
    usage = lambda: sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu, start = usage(), time.monotonic()
    dataset.download_and_prepare(download_config=options)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([time.monotonic() - start, usage() - cpu, memory]))


def main(program, folder):
    model = next((line.split(": ")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    print(f"{model or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; medians of {ROUNDS} rounds, 1 of TFDS\n")
    print("| config | packed by | examples per CPU second | ratio | seconds | peak memory, MB |")
    print("|---|---|---|---|---|---|")
    for config, per_shard in PER_SHARD.items():
        source, examples = folder / config, SHARDS * per_shard
        # In a process of its own: the peak memory of a child is at least that of its parent.
        maker = Path(__file__).with_name("inputs.py")
        subprocess.run([sys.executable, maker, config, source, str(SHARDS), str(per_shard)], check=True)
        output = folder / "output"
        runs = {"cp": [], "laion400m": []}
        for _ in range(ROUNDS):
            for name, command in {
                "cp": ["cp", "-r", source, output],
                "laion400m": [program, "pack", source, "-o", output, "--quiet"],
            }.items():
                shutil.rmtree(output, ignore_errors=True)
                os.sync()  # what is being deleted is not the next one's burden
                runs[name].append(measured(command))
        shutil.rmtree(output)
        theirs = subprocess.run(
            [sys.executable, __file__, "--tfds", config, source, output], check=True, capture_output=True, text=True
        )
        runs["TFDS 4.9.10"] = [json.loads(theirs.stdout.splitlines()[-1])]
        shutil.rmtree(output)
        medians = {name: [statistics.median(column) for column in zip(*rounds)] for name, rounds in runs.items()}
        for name, (seconds, cpu, memory) in medians.items():
            ratio = medians["TFDS 4.9.10"][1] / cpu
            print(f"| {config} | {name} | {examples / cpu:,.0f} | {ratio:.0f} | {seconds:.2f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--tfds":
        tfds_builder(*sys.argv[2:])
    elif len(sys.argv) > 2:
        main(sys.argv[1], Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(sys.argv[1], Path(temporary))
