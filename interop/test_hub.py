"""`datasets` reads the packages for the Hub, whole and as a stream, and every row is that of its source."""

import io
import subprocess
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

GOLDEN = Path(__file__).parent.parent / "crates/dataset/tests/golden/tfds/inputs"


@pytest.fixture(autouse=True)
def nothing_is_cached_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def load(folder, tmp_path, **options):
    return datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"), **options)


@pytest.fixture(scope="session")
def hub(program, run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    subprocess.run([program, "pack", run, "-o", folder, "--format", "hf", "--quiet"], check=True)
    return folder / "hf"


def test_a_run_has_pictures_metadata_and_embeddings_in_one_row(hub, run, curated, tmp_path):
    rows = load(hub, tmp_path)
    assert isinstance(rows.features["image"], datasets.Image)
    assert rows.features["image_embedding"] == datasets.List(datasets.Value("float16"), length=512)
    seen = set()
    raw = rows.cast_column("image", datasets.Image(decode=False)).with_format("arrow")
    vectors = {
        name: raw.data.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, 512)
        for name in ("image_embedding", "text_embedding")
    }
    for number, row in enumerate(rows):
        source = curated[row["url"], row["caption"]]
        assert row["image"].size == (source["width"], source["height"])
        for name in vectors:
            assert vectors[name].dtype == np.float16
            assert np.array_equal(vectors[name][number], source[name])
            assert np.array_equal(np.array(row[name], np.float16), source[name])
        for name in ("key", "nsfw", "similarity", "original_width", "original_height"):
            assert row[name] == source[name], name
        assert row["license"] == (source["license"] or "?")
        seen.add(row["key"])
    assert len(seen) == len(rows) == len(curated)


def test_the_card_says_what_is_there(hub, curated):
    text = (hub / "README.md").read_text()
    card = yaml.safe_load(text.split("---\n")[1])
    info = card["dataset_info"]
    assert info["splits"][0]["num_examples"] == len(curated)
    files = sorted((hub / "data").glob("*.parquet"))
    assert info["download_size"] == sum(path.stat().st_size for path in files)
    schema = datasets.Features.from_arrow_schema(pq.read_schema(files[0]))
    assert datasets.Features._from_yaml_list(info["features"]) == schema
    assert not any(caption in text for _, caption in curated if len(caption) > 12)


@pytest.mark.parametrize("kind", ["images", "embeddings"])
def test_files_of_laion400m_become_rows_with_what_they_have(program, tmp_path, kind):
    source = GOLDEN / f"{kind}-100"
    subprocess.run([program, "pack", source, "-o", tmp_path, "--format", "hf,parquet", "--quiet"], check=True)
    whole = load(tmp_path / "hf", tmp_path)
    stream = list(load(tmp_path / "hf", tmp_path, streaming=True))
    assert len(whole) == len(stream) == 100
    tables = sorted(source.glob("*.parquet"))
    expected = [row for table in tables for row in pq.read_table(table).to_pylist()]
    assert [row["caption"] for row in stream] == [row["caption"] for row in expected]
    assert [row["url"] for row in stream] == [row["url"] for row in expected]
    if kind == "images":
        assert all(row["image"].size == other["image"].size for row, other in zip(whole, stream))
        raw = whole.cast_column("image", datasets.Image(decode=False))
        assert all(Image.open(io.BytesIO(row["image"]["bytes"])).format == "JPEG" for row in raw)
    else:
        vectors = np.concatenate([np.load(source / f"img_emb_{shard}.npy") for shard in range(2)])
        assert np.array_equal(np.array([row["image_embedding"] for row in stream], np.float16), vectors)
    # The metadata alone has neither.
    subprocess.run([program, "pack", tmp_path / "metadata", "-o", tmp_path / "m", "--format", "hf", "-q"], check=True)
    rows = load(tmp_path / "m/hf", tmp_path)
    assert "image" not in rows.column_names and rows["url"][:] == [row["url"] for row in stream]
