"""The included CLIP in ONNX Runtime, as people install it."""

import importlib.util
import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from test_stores import free_port, listening


@pytest.fixture(scope="module")
def embedded(program, run, tmp_path_factory):
    """Embeds the pictures of the run, and gives the two matrices and the metadata."""

    def embed(*options, environment=None):
        output = tmp_path_factory.mktemp("embeddings")
        command = [program, "embed", run / "packages/webdataset", "-o", output, "--quiet", *options]
        subprocess.run(command, check=True, env=os.environ | (environment or {}))
        matrices = [np.load(output / f"{kind}_emb/{kind}_emb_0.npy").astype(np.float32) for kind in ("img", "text")]
        return *matrices, pq.read_table(output / "metadata/metadata_0.parquet")

    return embed


@pytest.fixture(scope="module")
def library():
    """The folder of ONNX Runtime's library in its Python package."""
    return Path(importlib.util.find_spec("onnxruntime").origin).parent / "capi"


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_onnx_runtime_gives_what_candle_gives(embedded, library):
    candle, runtime = embedded(), embedded("--onnxruntime", library)
    assert len(candle[0]) > 300
    for ours, theirs in zip(candle[:2], runtime[:2], strict=True):
        assert cosines(ours, theirs).min() > 0.99999
    keys = [table.column("key").to_pylist() for table in (candle[2], runtime[2])]
    assert keys[0] == keys[1]


def test_eight_bits_come_close(embedded, library):
    exact, fast = embedded(), embedded("--onnxruntime", library, "--precision", "int8")
    assert cosines(exact[0], fast[0]).min() > 0.99 and cosines(exact[1], fast[1]).min() > 0.99
    assert not np.array_equal(exact[0], fast[0]) and not np.array_equal(exact[1], fast[1])
    similarity = [(images * texts).sum(1) for images, texts, _ in (exact, fast)]
    changed = ((similarity[0] >= 0.3) != (similarity[1] >= 0.3)).mean()
    assert changed < 0.02


def test_with_few_bits_the_library_need_not_be_named(embedded, library):
    (file,) = library.glob("libonnxruntime.so*")
    named, found = (embedded(*told, "--precision", "int8", environment=environment) for told, environment in [
        (("--onnxruntime", library), {}),
        ((), {"ORT_DYLIB_PATH": str(file)}),
    ])
    assert np.array_equal(named[0], found[0]) and np.array_equal(named[1], found[1])


def test_sixteen_bits_come_closer(embedded, library):
    exact, half = embedded(), embedded("--onnxruntime", library, "--precision", "float16")
    assert cosines(exact[0], half[0]).min() > 0.9999 and cosines(exact[1], half[1]).min() > 0.9999
    assert not np.array_equal(exact[0], half[0]) and not np.array_equal(exact[1], half[1])


def test_the_recipe_says_how_many_bits(program, library, tmp_path):
    """Who computes is told to the command. Words are embedded with 32 bits by whoever looks for them, and are understood."""
    port, first, other = free_port(), tmp_path / "first", tmp_path / "other"
    serving = subprocess.Popen([program, "demo", "--quiet", "--pictures", "200", "--port", str(port), "-o", first])
    try:
        deadline = time.monotonic() + 120
        while not (first / "report.json").exists():
            assert serving.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        recipe = first / "crawl/recipe.toml"
        recipe.write_text(recipe.read_text().replace('precision = "float32"', 'precision = "int8"'))
        build = [program, "build", recipe, "-o", other, "--quiet"]
        assert "other bits than 32" in subprocess.run(build, capture_output=True, text=True).stderr
        assert subprocess.run([*build, "--onnxruntime", library]).returncode in (0, 1)
    finally:
        serving.terminate()
        serving.wait()
    exact, fast = (np.load(run / "embeddings/img_emb/img_emb_0.npy").astype(np.float32) for run in (first, other))
    assert not np.array_equal(exact, fast) and cosines(exact, fast).min() > 0.99
    found = []
    for run in (first, other):
        search = [program, "search", run, "a red circle", "--json"]
        lines = subprocess.run(search, check=True, capture_output=True, text=True).stdout.splitlines()
        found.append({json.loads(line)["url"] for line in lines})
    assert len(found[0]) == 10 and len(found[0] & found[1]) >= 8
    place = ("127.0.0.1", free_port())
    with subprocess.Popen([program, "serve", other, "--port", str(place[1]), "--quiet"]) as service:
        try:
            listening(service, place)
        finally:
            service.terminate()


def test_what_is_missing_is_named(program, run, library, tmp_path):
    def told(*options):
        command = [program, "embed", run / "packages/webdataset", "-o", tmp_path / "none", *options]
        environment = os.environ | {"HF_HOME": str(tmp_path), "VIRTUAL_ENV": str(tmp_path)}
        run_ = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert run_.returncode == 2
        return run_.stderr

    (tmp_path / "empty").mkdir()
    assert "no libonnxruntime in it" in told("--onnxruntime", tmp_path / "empty")
    (tmp_path / "libonnxruntime.so").write_bytes(b"no library")
    assert "libonnxruntime.so" in told("--onnxruntime", tmp_path / "libonnxruntime.so")
    assert "32" in told("--precision", "int8") and "32" in told("--precision", "float16")
    assert "CUDA needs its library" in told("--device", "cuda")
    assert "onnxruntime-gpu" in told("--device", "cuda", "--onnxruntime", library)
    assert "it is cpu, cuda, or cuda: and numbers" in told("--device", "cuda:x")
    assert "hf download openai/clip-vit-base-patch32" in told("--model", "ViT-B/32")
    assert "hf download somebody/clip" in told("--model", "hf:somebody/clip")
    assert "no such folder" in told("--model", "RN50")
