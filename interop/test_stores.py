"""Runs, packages and indices in an object store: moto speaks S3's protocol on this machine, and what is between fails often."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import laion400m
from faults import Faults

SEED = int(time.time())


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def listening(server: subprocess.Popen, place: tuple[str, int]) -> None:
    """Waits until the server can be asked."""
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(place).close()
            return
        except ConnectionRefusedError:
            assert server.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)


@pytest.fixture(scope="module")
def moto():
    """A process of its own, for moto has one state for all servers of a process."""
    place = ("127.0.0.1", free_port())
    command = [sys.executable, "-m", "moto.server", "-H", place[0], "-p", str(place[1])]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    listening(server, place)
    yield place
    server.terminate()
    server.wait()


def environment(url: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "anyone",
        "AWS_SECRET_ACCESS_KEY": "anyone",
        "AWS_ALLOW_HTTP": "true",
    }


class Bucket:
    """What is in the store, asked without anything between."""

    def __init__(self, place: tuple[str, int], name: str) -> None:
        host, port = place
        keys = {"aws_access_key_id": "anyone", "aws_secret_access_key": "anyone"}
        self.client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", **keys)
        self.client.create_bucket(Bucket=name)
        self.name, self.place = name, place

    def objects(self, prefix: str = "") -> dict[str, tuple[int, str]]:
        """Lengths and hashes."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return {row["Key"]: (row["Size"], row["ETag"]) for page in pages for row in page.get("Contents", [])}

    def files(self, prefix: str) -> dict[str, bytes]:
        read = lambda key: self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return {key.removeprefix(f"{prefix}/"): read(key) for key in self.objects(f"{prefix}/")}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lasting(found: dict[str, bytes]) -> dict[str, bytes]:
    """All but the lock, the crawl of the demo, and what tells how long something took."""
    passing = lambda name: name == ".lock" or name.startswith("crawl/") or name.endswith("_stats.json")
    return {name: content for name, content in found.items() if not passing(name)}


def same_run(program, folder: Path, store, address: str, told: dict[str, str], port: int, monkeypatch) -> None:
    """Asserts that a demo's run in a store has the bytes of one on the disk, and that the loader reads it there."""
    demo = [program, "demo", "--no-serve", "--quiet", "--pictures", "200", "--web-port", str(port), "-o"]
    subprocess.run([*demo, folder / "run"], check=True)
    subprocess.run([*demo, f"{address}/run"], check=True, env={**os.environ, **told})
    here, there = lasting(files(folder / "run")), lasting(store.files("run"))
    assert here and here.keys() == there.keys()
    assert [name for name in here if here[name] != there[name]] == []
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    ours, theirs = (laion400m.load(f"{run}/packages/webdataset", split="train") for run in (folder / "run", f"{address}/run"))
    assert [row["caption"] for row in ours] == [row["caption"] for row in theirs]


def same_index(program, folder: Path, store, address: str, told: dict[str, str]) -> None:
    """Asserts that an index with an object that is longer than a part has the bytes of one on the disk."""
    embeddings(folder / "embeddings")
    index = [program, "index", folder / "embeddings", "--quiet", "-o"]
    subprocess.run([*index, folder / "index"], check=True)
    subprocess.run([*index, f"{address}/index"], check=True, env={**os.environ, **told})
    here, there = files(folder / "index"), store.files("index")
    assert here == there and max(map(len, there.values())) > 16 << 20


class Watch:
    """Looks again and again what is there, and keeps every length and hash an object was ever seen with."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket, self.seen, self.ended = bucket, {}, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def watch(self) -> None:
        while not self.ended.wait(0.02):
            for key, state in self.bucket.objects().items():
                self.seen.setdefault(key, set()).add(state)

    def end(self) -> dict[str, set[tuple[int, str]]]:
        self.ended.set()
        self.thread.join()
        return self.seen


@pytest.fixture(scope="module")
def stored(moto, program, tmp_path_factory):
    """The same demo on the disk and, with faults, in a store: both runs, what failed, and what was ever seen."""
    folder = tmp_path_factory.mktemp("stores")
    bucket = Bucket(moto, "lake")
    faults = Faults(*moto, share=0.25, seed=SEED)
    demo = [program, "demo", "--no-serve", "--quiet", "--pictures", "400", "--web-port", "18473", "-o"]
    subprocess.run([*demo, folder / "run"], check=True)
    watch = Watch(bucket)
    told = {**os.environ, **environment(faults.url), "XDG_CACHE_HOME": str(folder / "cache")}
    try:
        subprocess.run([*demo, "s3://lake/run"], check=True, env=told)
    finally:
        seen = watch.end()
    return folder, bucket, faults, seen


def test_a_run_in_a_store_has_the_bytes_of_one_on_a_disk(stored):
    folder, bucket, faults, _ = stored
    assert len(faults.failed) == 5 and sum(faults.failed.values()) >= 15, faults.failed
    here, there = lasting(files(folder / "run")), lasting(bucket.files("run"))
    assert here.keys() == there.keys()
    assert [name for name in here if here[name] != there[name]] == []


def test_no_object_is_ever_seen_half_written(stored):
    _, bucket, _, seen = stored
    last = bucket.objects()
    assert set(last) <= set(seen) | {"run/report.html", "run/report.json"}
    for key, states in seen.items():
        if "/.unsorted/" not in key and key in last:  # what waits for its final name
            assert states == {last[key]}, key
    assert not [key for key in last if "/.unsorted/" in key or key.endswith(".tmp")]


def test_nothing_is_left_of_the_cache(stored):
    folder, *_ = stored
    assert [path for path in (folder / "cache").rglob("*") if path.is_file() and "scratch" not in path.parts] == []


def test_a_second_call_writes_nothing(stored, program):
    folder, bucket, faults, _ = stored
    before = bucket.objects("run/")
    told = {**os.environ, **environment(faults.url)}
    subprocess.run([program, "index", "s3://lake/run", "--quiet"], check=True, env=told)
    subprocess.run([program, "pack", "s3://lake/run", "--quiet"], check=True, env=told)
    assert bucket.objects("run/") == before
    told = subprocess.run([program, "verify", "s3://lake/run"], check=True, env=told, capture_output=True, text=True)
    assert told.stdout.endswith(" 0 problems\n"), told.stdout
    found = subprocess.run(
        [program, "search", "s3://lake/run", "a red circle", "--json"],
        check=True,
        env={**os.environ, **environment(faults.url)},
        capture_output=True,
        text=True,
    )
    assert len(found.stdout.splitlines()) == 10


def test_stages_go_from_stores_to_stores(stored, program):
    folder, bucket, faults, _ = stored
    told = {**os.environ, **environment(faults.url)}
    subprocess.run([program, "filter", "s3://lake/run/embeddings", "-o", "s3://lake/curated", "--quiet"], env=told)
    subprocess.run([program, "filter", folder / "run/embeddings", "-o", folder / "curated", "--quiet"])
    here, there = files(folder / "curated"), bucket.files("curated")
    assert there and here == there
    subprocess.run([program, "pack", "s3://lake/run", "--format", "hf", "-o", "s3://lake/hub", "--quiet"], check=True, env=told)
    subprocess.run([program, "pack", folder / "run", "--format", "hf", "-o", folder / "hub", "--quiet"], check=True)
    assert bucket.files("hub") == files(folder / "hub")


def embeddings(folder: Path) -> None:
    """A package of which an index has an object that is longer than a part."""
    print("seed", SEED)
    rows = np.random.default_rng(SEED).standard_normal((20_000, 512), np.float32)
    (folder / "img_emb").mkdir(parents=True)
    (folder / "metadata").mkdir()
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    np.save(folder / "img_emb/img_emb_0.npy", rows)
    names = pa.array([f"{row:09}" for row in range(len(rows))])
    pq.write_table(pa.table({"image_path": names, "caption": names}), folder / "metadata/metadata_0.parquet")


def test_long_objects_go_in_parts(moto, program, tmp_path):
    bucket = Bucket(moto, "long")
    faults = Faults(*moto, share=0.3, seed=SEED + 1)
    folder = tmp_path / "embeddings"
    embeddings(folder)
    for name in files(folder):
        bucket.client.upload_file(str(folder / name), "long", f"embeddings/{name}")
    told = {**os.environ, **environment(faults.url), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([program, "index", folder, "-o", tmp_path / "index", "--quiet"], check=True)
    index = [program, "index", "s3://long/embeddings", "-o", "s3://long/index", "--quiet"]
    subprocess.run(index, check=True, env=told)
    here, there = files(tmp_path / "index"), bucket.files("index")
    assert here == there and max(map(len, there.values())) > 16 << 20
    left = bucket.client.list_multipart_uploads(Bucket="long").get("Uploads", [])
    assert len(left) == faults.nameless, left


def test_what_a_store_does_not_give_is_said(program, moto, tmp_path):
    told = {**os.environ, **environment("http://%s:%s" % moto)}
    found = subprocess.run([program, "verify", "s3://lake/none"], env=told, capture_output=True, text=True)
    assert found.returncode == 2 and "s3://lake/none" in found.stderr, found
    found = subprocess.run(
        [program, "filter", "s3://nowhere/embeddings", "-o", "s3://nowhere/out"], env=told, capture_output=True, text=True
    )
    assert found.returncode == 2 and "s3://nowhere/embeddings" in found.stderr and "NoSuchBucket" in found.stderr, found


def test_the_loader_reads_from_a_store(stored, monkeypatch):
    folder, _, faults, _ = stored
    for name, value in environment(faults.url).items():
        monkeypatch.setenv(name, value)
    for package in ("packages/tfds/laion400m/images/1.0.0", "packages/webdataset"):
        here = laion400m.load(folder / "run" / package, split="train", batch_size=64, shuffle_files=True)
        there = laion400m.load(f"s3://lake/run/{package}", split="train", batch_size=64, shuffle_files=True)
        assert len(here) == len(there) >= 3
        for ours, theirs in zip(here, there, strict=True):
            assert list(ours["caption"]) == list(theirs["caption"])
            assert all(np.array_equal(a, b) for a, b in zip(ours["image"], theirs["image"], strict=True))


def test_what_is_deleted_in_a_store_is_served_no_more(stored, program, moto, tmp_path):
    told = {**os.environ, **environment("http://%s:%s" % moto)}
    port = free_port()
    server = subprocess.Popen([program, "serve", "s3://lake/run", "--port", str(port), "--quiet"], env=told)
    deadline = time.monotonic() + 120

    def found() -> list[str]:
        url = f"http://127.0.0.1:{port}/api/v1/search?text=a+red+circle&count=5&safe=false"
        while True:
            try:
                return [row["key"] for row in json.load(urllib.request.urlopen(url))["results"]]
            except urllib.error.URLError:
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)

    try:
        first, *others = found()
        (tmp_path / "keys.txt").write_text(first)
        subprocess.run([program, "index", "s3://lake/run", "--delete", tmp_path / "keys.txt", "--quiet"], check=True, env=told)
        while first in found():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert found()[:4] == others
    finally:
        server.terminate()
        assert server.wait(timeout=60) == 0
