"""pyarrow, numpy and tarfile read the other packages, and rows of one shard belong together."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def shards(run):
    return sorted(int(path.stem) for path in (run / "packages/webdataset").glob("*.tar"))


def test_the_metadata_has_the_columns_of_the_release(run, curated):
    rows = []
    for path in sorted((run / "packages/metadata").glob("part-*.snappy.parquet")):
        table = pq.read_table(path)
        assert [(field.name, field.type) for field in table.schema] == [
            ("SAMPLE_ID", pa.int64()),
            ("URL", pa.string()),
            ("TEXT", pa.string()),
            ("HEIGHT", pa.int32()),
            ("WIDTH", pa.int32()),
            ("LICENSE", pa.string()),
            ("NSFW", pa.string()),
            ("similarity", pa.float64()),
        ]
        rows += table.to_pylist()
    assert len({row["SAMPLE_ID"] for row in rows}) == len(rows) == len(curated)
    for row in rows:
        source = curated[row["URL"], row["TEXT"]]
        size = source["original_height"], source["original_width"]
        assert (row["HEIGHT"], row["WIDTH"], row["similarity"]) == (*size, source["similarity"])
        assert (row["LICENSE"], row["NSFW"]) == (source["license"] or "?", source["nsfw"])


def test_embeddings_are_float16_of_length_one_and_give_the_similarity(run):
    for shard in shards(run):
        folder = run / "packages/embeddings"
        image, text = (np.load(folder / f"{kind}/{kind}_{shard}.npy") for kind in ("img_emb", "text_emb"))
        rows = pq.read_table(folder / f"metadata/metadata_{shard}.parquet").to_pylist()
        assert image.dtype == text.dtype == np.float16
        assert image.shape == text.shape == (len(rows), 512)
        image, text = image.astype(np.float64), text.astype(np.float64)
        assert np.allclose(np.linalg.norm(image, axis=1), 1, atol=2e-3)
        assert np.allclose((image * text).sum(axis=1), [row["similarity"] for row in rows], atol=2e-3)


def test_webdataset_samples_are_whole_and_sorted(run):
    for shard in shards(run):
        folder = run / "packages/webdataset"
        rows = pq.read_table(folder / f"{shard:05}.parquet").to_pylist()
        with tarfile.open(folder / f"{shard:05}.tar") as tar:
            members = [(member.name, tar.extractfile(member).read()) for member in tar]
        assert [name for name, _ in members] == [
            f"{row['key']}.{kind}" for row in rows for kind in ("jpg", "json", "txt")
        ]
        files = dict(members)
        for row in rows:
            image = Image.open(io.BytesIO(files[row["key"] + ".jpg"]))
            image.load()
            assert image.size == (row["width"], row["height"]) == (256, 256)
            assert files[row["key"] + ".txt"].decode() == row["caption"]
            assert json.loads(files[row["key"] + ".json"])["url"] == row["url"]


def test_every_downloaded_row_has_a_status_word_of_img2dataset(run):
    words = set()
    for path in (run / "images").glob("*.parquet"):
        for row in pq.read_table(path).to_pylist():
            words.add(row["status"])
            assert (row["status"] == "success") == (row["error_message"] is None)
    assert words == {"success", "failed_to_download", "failed_to_resize"}
