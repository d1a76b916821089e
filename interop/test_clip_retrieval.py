"""The real clip-retrieval on embeddings that `embed` wrote: its index step (autofaiss), and its reader on the same input."""

import functools
import importlib.util
import json
import shutil
import subprocess
import tarfile
import types
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest


@pytest.fixture(scope="module")
def clip_index():
    """`clip_retrieval.clip_index`, without its package, which imports models."""
    autofaiss = pytest.importorskip("autofaiss.external.optimize")
    # Its report of the finished index holds numbers that NumPy 2 no longer passes off as Python's.
    patched = types.ModuleType("json")
    patched.__dict__.update(json.__dict__, dump=functools.partial(json.dump, default=float))
    autofaiss.json = patched
    pytest.importorskip("fire")
    found = importlib.util.find_spec("clip_retrieval")
    if found is None:
        pytest.skip("clip-retrieval is not installed")
    path = Path(found.submodule_search_locations[0]) / "clip_index.py"
    spec = importlib.util.spec_from_file_location("clip_retrieval_index", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.clip_index


@pytest.mark.parametrize("folder", ["embeddings", "packages/embeddings"])
def test_it_builds_an_index_in_which_every_row_finds_itself(run, clip_index, tmp_path, folder):
    import faiss

    embeddings = tmp_path / "embeddings"
    shutil.copytree(run / folder, embeddings)
    clip_index(str(embeddings), str(tmp_path / "index"), nb_cores=2)
    shards = sorted(int(path.stem.split("_")[-1]) for path in (embeddings / "metadata").glob("*.parquet"))
    assert len(shards) > 1
    for kind, name in (("img_emb", "image"), ("text_emb", "text")):
        index = faiss.read_index(str(tmp_path / f"index/{name}.index"))
        # It takes the parts in the order of their names.
        parts = [np.load(path) for path in sorted((embeddings / kind).glob("*.npy"))]
        rows = np.concatenate(parts).astype(np.float32)
        assert index.ntotal == len(rows) > 500
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-2)
        _, found = index.search(rows, 5)
        # Equal captions have equal embeddings: a row is found if one just like it is.
        same = [any(np.array_equal(rows[i], rows[j]) for j in nearest) for i, nearest in enumerate(found)]
        assert np.mean(same) > 0.97, f"{name}: {np.mean(same)}"
    copied = sorted((tmp_path / "index/metadata").glob("*.parquet"))
    assert sum(pq.read_metadata(path).num_rows for path in copied) == len(rows)


def test_its_reader_finds_the_samples_that_were_embedded(run, program, clip_retrieval_reader, tmp_path):
    """The same tars, read by both without a table: paths, captions and the columns of the JSON are the same."""
    tars = sorted((run / "packages/webdataset").glob("*.tar"))[:2]
    for tar in tars:
        shutil.copy(tar, tmp_path / tar.name)
    subprocess.run([program, "embed", tmp_path, "-o", tmp_path / "out", "--quiet"], check=True)
    for tar in tars:
        rows = pq.read_table(tmp_path / f"out/metadata/metadata_{int(tar.stem)}.parquet")
        assert rows.column_names[:2] == ["image_path", "caption"]
        # With a square of another size per picture its own collation would not do.
        samples = clip_retrieval_reader.create_webdataset(
            [str(tar)], lambda image: image.size, lambda texts: texts, enable_metadata=True
        )
        theirs = [(sample["image_filename"], sample["text"], json.loads(sample["metadata"])) for sample in samples]
        assert [(row["image_path"], row["caption"]) for row in rows.to_pylist()] == [theirs_[:2] for theirs_ in theirs]
        for row, (_, _, metadata) in zip(rows.to_pylist(), theirs):
            # A similarity may be that of the embeddings beside it.
            assert row["similarity"] == pytest.approx(metadata["similarity"], abs=1e-3)
            ours = {name: row[name] for name in metadata}
            assert ours == {**metadata, "license": metadata["license"] or None, "similarity": row["similarity"]}


def test_a_plain_folder_has_the_rows_that_its_tar_has(run, program, tmp_path):
    tar = sorted((run / "packages/webdataset").glob("*.tar"))[0]
    with tarfile.open(tar) as files:
        files.extractall(tmp_path / "files/deep", filter="data")
    shutil.copytree(tar.parent, tmp_path / "tars", ignore=lambda _, names: set(names) - {tar.name})
    rows = {}
    for name in ("files", "tars"):
        subprocess.run([program, "embed", tmp_path / name, "-o", tmp_path / f"{name}-out", "--quiet"], check=True)
        found = pq.read_table(next((tmp_path / f"{name}-out/metadata").glob("*.parquet"))).to_pylist()
        image = np.load(next((tmp_path / f"{name}-out/img_emb").glob("*.npy")))
        rows[name] = [(row["uid"], row["caption"], row["url"], tuple(vector)) for row, vector in zip(found, image)]
    assert rows["files"] == rows["tars"] and len(rows["files"]) > 100
