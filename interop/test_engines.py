"""The whole road on Spark and on Ray, in a venv of its own that has them and the wheel: ENGINES names its Python. Executors and
workers are processes of their own, and everything is in an object store on this machine."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from test_stores import Bucket, environment, free_port, lasting, moto  # noqa: F401

HERE = Path(__file__).parent
CLUSTER = "local-cluster[2,1,2048]"


@pytest.fixture(scope="module")
def engines():
    if "ENGINES" not in os.environ:
        pytest.skip("needs ENGINES: a Python with pyspark, ray and the wheel")
    # Executors have working folders of their own. The link that a venv's Python is has to stay, so it is not resolved.
    return os.path.abspath(os.environ["ENGINES"])


@pytest.fixture(scope="module")
def spark(engines):
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    return engines


@pytest.fixture(scope="module")
def web(program, moto, tmp_path_factory):  # noqa: F811
    """The miniature web, whose crawl and recipe are in a bucket, with tables of an earlier run; and a run by the program alone."""
    folder = tmp_path_factory.mktemp("web")
    port = free_port()
    serving = subprocess.Popen(
        [program, "demo", "--quiet", "--pictures", "1200", "--port", str(port), "-o", folder / "run"], text=True
    )
    deadline = time.monotonic() + 300
    while not (folder / "run/report.json").exists():
        assert serving.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    bucket = Bucket(moto, "engines")
    for archive in (folder / "run/crawl").glob("*.wat.gz"):
        bucket.client.upload_file(str(archive), "engines", f"crawl/{archive.name}")
    recipe = (folder / "run/crawl/recipe.toml").read_text()
    known = [f"s3://engines/earlier/{shard:05}.parquet" for shard in (1, 4)]
    recipe = recipe.replace('"*.warc.wat.gz"', '"s3://engines/crawl/*.warc.wat.gz"')
    recipe = recipe.replace("shard_rows = 500", f"shard_rows = 200\nagainst = {known}")
    bucket.client.put_object(Bucket="engines", Key="recipe.toml", Body=recipe.encode())
    told = environment("http://%s:%s" % moto)
    earlier = [program, "collect", "s3://engines/crawl/miniweb-00000.warc.wat.gz", "-o", "s3://engines/earlier", "--quiet"]
    (folder / "earlier.toml").write_text("shard_rows = 20")
    subprocess.run([*earlier, "--config", folder / "earlier.toml"], env={**os.environ, **told}, check=True)
    build = [program, "build", "s3://engines/recipe.toml", "-o", "s3://engines/alone", "--quiet"]
    ended = subprocess.run(build, env={**os.environ, **told})
    assert ended.returncode in (0, 1)
    yield bucket, told, lasting(bucket.files("alone"))
    serving.terminate()
    serving.wait()


class Build:
    """A build on an engine that is under way."""

    def __init__(self, python: str, told: dict[str, str], script: str, *arguments: str) -> None:
        command = [python, str(HERE / script), *arguments]
        told = {**os.environ, **told, "PYSPARK_PYTHON": python, "RAY_USAGE_STATS_ENABLED": "0"}
        self.process = subprocess.Popen(command, env=told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.told, self.warned = [], []
        self.readers = [
            threading.Thread(target=self.listen),
            threading.Thread(target=lambda: self.warned.extend(self.process.stderr)),
        ]
        for reader in self.readers:
            reader.start()

    def listen(self) -> None:
        # Ray tells there, too, that a worker is gone.
        self.told.extend(json.loads(line) for line in self.process.stdout if line.startswith("{"))

    def application(self) -> str | int:
        while not self.told:
            assert self.process.poll() is None, "".join(self.warned)[-4000:]
            time.sleep(0.1)
        return self.told[0]["application"]

    def end(self) -> dict:
        status = self.process.wait(timeout=600)
        for reader in self.readers:
            reader.join()
        assert status == 0, "".join(self.warned)[-4000:]
        return self.told[1]


def on_spark(python: str, told: dict[str, str], run: str, master: str = CLUSTER) -> Build:
    return Build(python, told, "spark_build.py", master, "s3://engines/recipe.toml", run)


def on_ray(python: str, told: dict[str, str], run: str, *cards: str) -> Build:
    return Build(python, told, "ray_build.py", "s3://engines/recipe.toml", run, *cards)


def executor(application: str, number: int) -> int:
    """The process of an executor, by its own id."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if "org.apache.spark.executor.CoarseGrainedExecutorBackend" in words:
            option = lambda name: words[words.index(name) + 1]
            if option("--app-id") == application and option("--executor-id") == str(number):
                return int(folder.name)
    raise AssertionError(f"no executor {number} of {application}")


def unlike(here: dict[str, bytes], there: dict[str, bytes]) -> list[str]:
    return sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))


def uids(run: dict[str, bytes]) -> list[str]:
    tables = [content for name, content in run.items() if name.startswith("pairs/") and name.endswith(".parquet")]
    return sorted(uid for table in tables for uid in pq.read_table(io.BytesIO(table))["uid"].to_pylist())


def test_a_run_on_spark_has_the_bytes_of_one_machine(web, spark):
    bucket, told, alone = web
    build = on_spark(spark, told, "s3://engines/together")
    ended = build.end()
    assert "-XX:TieredStopAtLevel=1" in build.told[0]["java"]
    assert len([name for name in alone if name.startswith("packages/webdataset/") and name.endswith(".tar")]) == 5
    assert unlike(alone, lasting(bucket.files("together"))) == []
    assert ended["report"] == json.loads(alone["report.json"])
    assert sorted(ended["uids"]) == uids(alone)
    funnel = {stage["stage"]: stage for stage in ended["report"]["stages"]}
    assert funnel["collect"]["dropped"]["collected_before"] >= 40  # some of them stand there twice
    for stage in ("download", "embed", "filter", "pack"):
        assert ended["counters"][f"{stage} kept"] == funnel[stage]["kept"]
        assert ended["counters"][f"{stage} failed"] == sum(funnel[stage]["failed"].values())


def in_the_middle(build: Build, bucket: Bucket, run: str) -> str | int:
    """Waits until some shard is downloaded and not all are packed, and gives the application."""
    application = build.application()
    while not any(name.endswith(".parquet") for name in bucket.objects(f"{run}/images/")):
        assert build.process.poll() is None, "".join(build.warned)[-4000:]
        time.sleep(0.05)
    packed = [name for name in bucket.objects(f"{run}/packages/webdataset/") if name.endswith(".tar")]
    assert len(packed) < 5
    return application


def test_an_executor_that_is_killed_changes_nothing(web, spark):
    bucket, told, alone = web
    build = on_spark(spark, told, "s3://engines/killed")
    os.kill(executor(in_the_middle(build, bucket, "killed"), 0), signal.SIGKILL)
    ended = build.end()
    assert any("Lost executor 0" in line for line in build.warned), "".join(build.warned)[-4000:]
    assert unlike(alone, lasting(bucket.files("killed"))) == []
    assert ended["report"] == json.loads(alone["report.json"])


def test_a_second_build_does_nothing_again(web, spark):
    bucket, told, _ = web
    before = bucket.objects("together/")
    on_spark(spark, told, "s3://engines/together", "local[2]").end()
    assert bucket.objects("together/") == before


def test_step_by_step_a_card_is_asked_for_where_pictures_are_embedded(web, spark, tmp_path):
    """There is no card: the step that asks for one has to say so. All others have the bytes of one machine."""
    bucket, told, alone = web
    cards = tmp_path / "cards.sh"
    cards.write_text("""#!/bin/sh\necho '{"name": "gpu", "addresses": ["0"]}'\n""")
    cards.chmod(0o755)
    steps = Build(spark, told, "spark_steps.py", CLUSTER, "s3://engines/recipe.toml", "s3://engines/steps", str(cards)).end()
    assert "CUDA needs its library" in steps["refused"]
    funnel = {stage["stage"]: stage["kept"] for stage in json.loads(alone["report.json"])["stages"]}
    assert steps["kept"] == {step: funnel[step] for step in ("download", "embed", "filter", "pack")}
    of_shards = lambda run: {name: content for name, content in run.items() if re.search(r"[/_-]\d+[.\w]*$", name) and "tfds/" not in name}
    here, there = of_shards(alone), of_shards(lasting(bucket.files("steps")))
    assert len(here) >= 5 * 12 and unlike(here, there) == []
    assert "embeddings/prompts.safetensors" in bucket.files("steps")


def test_a_run_on_ray_has_the_bytes_of_one_machine(web, engines):
    """By actors, as those that have cards."""
    bucket, told, alone = web
    ended = on_ray(engines, told, "s3://engines/ray", "0").end()
    assert unlike(alone, lasting(bucket.files("ray"))) == []
    assert sorted(ended["uids"]) == uids(alone)
    assert ended["report"] == json.loads(alone["report.json"])


def parent(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("PPid:")[1].split()[0])


def workers(driver: int) -> list[int]:
    """The processes in which Ray takes shards through the stages: children of a node's, which is one of the driver's."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title, process = (folder / "cmdline").read_bytes(), int(folder.name)
            if title.startswith(b"ray::MapBatches(work)") and parent(parent(process)) == driver:
                found.append(process)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_a_worker_that_is_killed_changes_nothing(web, engines):
    bucket, told, alone = web
    build = on_ray(engines, told, "s3://engines/ray-killed")
    os.kill(workers(in_the_middle(build, bucket, "ray-killed"))[0], signal.SIGKILL)
    ended = build.end()
    assert unlike(alone, lasting(bucket.files("ray-killed"))) == []
    assert ended["report"] == json.loads(alone["report.json"])
