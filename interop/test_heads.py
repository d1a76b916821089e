"""Heads score as PyTorch and ONNX Runtime do, and others read the scores."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

GOLDEN = Path(__file__).parent.parent / "crates/clip/tests/data/heads"
SEED = 20261126


def write_embeddings(folder, rows, dimensions):
    """As clip-retrieval writes them; gives those of the pictures."""
    random = np.random.default_rng(SEED)
    matrices = random.standard_normal((2, rows, dimensions))
    matrices = (matrices / np.linalg.norm(matrices, axis=2, keepdims=True)).astype(np.float16)
    for kind, matrix in zip(("img", "text"), matrices, strict=True):
        (folder / f"{kind}_emb").mkdir(parents=True)
        np.save(folder / f"{kind}_emb/{kind}_emb_0.npy", matrix)
    (folder / "metadata").mkdir()
    columns = {"image_path": [f"{row:09}" for row in range(rows)], "caption": ["a picture"] * rows}
    pq.write_table(pa.table(columns), folder / "metadata/metadata_0.parquet")
    return matrices[0].astype(np.float32)


@pytest.fixture
def scored(program, tmp_path):
    """Scores the embeddings of a folder by these heads, and gives the table."""

    def score(embeddings, heads, *options):
        output = tmp_path / "curated"
        named = [part for name, file in heads.items() for part in ("--head", f"{name}={file}")]
        command = [program, "filter", embeddings, "-o", output, "--tag-only", "--similarity-min", "-1", "--quiet", *named, *options]
        subprocess.run(command, check=True)
        return pq.read_table(output / "00000.parquet")

    return score


def test_heads_of_their_real_size_score_as_in_pytorch(scored, tmp_path):
    torch = pytest.importorskip("torch")
    from head_reference import heads

    rows = write_embeddings(tmp_path / "embeddings", 3000, 512)
    torch.manual_seed(SEED)
    files, expected = {}, {}
    with torch.no_grad():
        for name, head in heads(512, 1).items():
            name = name.lower()
            files[name] = tmp_path / f"{name}.pth"
            torch.save(head.eval().state_dict(), files[name])
            expected[name] = head(torch.from_numpy(rows)).flatten().numpy()
    table = scored(tmp_path / "embeddings", files)
    for name, scores in expected.items():
        column = table.column(name)
        assert str(column.type) == "float" and column.null_count == 0
        off = np.abs(column.to_numpy() - scores).max()
        assert off < 1e-5 and scores.std() > 1e-2, (name, off, scores.std())


def test_an_onnx_head_scores_as_in_python_and_as_its_weights_do(scored, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    rows = write_embeddings(tmp_path / "embeddings", 3000, 12)
    files = {"by_onnx": GOLDEN / "l14_nsfw.onnx", "by_weights": GOLDEN / "l14_nsfw.pth"}
    table = scored(tmp_path / "embeddings", files, "--onnxruntime", Path(runtime.__file__).parent / "capi")
    expected = runtime.InferenceSession(files["by_onnx"]).run(None, {"rows": rows})[0].flatten()
    for name in files:
        assert np.abs(table.column(name).to_numpy() - expected).max() < 1e-6, name
    assert expected.std() > 1e-2


def test_what_an_onnx_head_lacks_is_said(program, tmp_path):
    write_embeddings(tmp_path / "embeddings", 10, 512)
    capi = Path(pytest.importorskip("onnxruntime").__file__).parent / "capi"
    (tmp_path / "no.onnx").write_bytes(b"no model")

    def told(head, *options):
        command = [program, "filter", tmp_path / "embeddings", "-o", tmp_path / "none", "--head", f"punsafe={head}", *options]
        clean = {name: value for name, value in os.environ.items() if name not in ("ORT_DYLIB_PATH", "VIRTUAL_ENV")}
        found = subprocess.run(command, env=clean, capture_output=True, text=True)
        assert found.returncode == 2 and "panicked" not in found.stderr
        return found.stderr

    assert "pip install onnxruntime" in told(GOLDEN / "l14_nsfw.onnx")
    assert "no.onnx" in told(tmp_path / "no.onnx", "--onnxruntime", capi)
    wrong = told(GOLDEN / "l14_nsfw.onnx", "--onnxruntime", capi)
    assert all(part in wrong for part in ("l14_nsfw.onnx", "12", "512"))
