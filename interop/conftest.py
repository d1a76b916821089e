"""A run of the demo, shared by all tests. LAION400M names the program."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="session")
def program() -> str:
    return os.environ["LAION400M"]


@pytest.fixture(scope="session")
def run(program, tmp_path_factory) -> Path:
    """A finished run folder with several shards."""
    folder = tmp_path_factory.mktemp("interop") / "run"
    subprocess.run([program, "demo", "--no-serve", "--quiet", "--pictures", "1500", "-o", folder], check=True)
    return folder


@pytest.fixture(scope="session")
def curated(run) -> dict[tuple[str, str], dict]:
    """The kept rows of `curated/` with their embeddings as the stages before packing wrote them, by URL and caption."""
    rows = {}
    for table in sorted((run / "curated").glob("*.parquet")):
        shard = int(table.stem)
        image, text = (
            np.load(run / f"embeddings/{kind}/{kind}_{shard}.npy") for kind in ("img_emb", "text_emb")
        )
        for row in pq.read_table(table).to_pylist():
            if row["verdict"] == "kept":
                row["image_embedding"] = image[row["embedding_row"]]
                row["text_embedding"] = text[row["embedding_row"]]
                rows[row["url"], row["caption"]] = row
    assert len(rows) > 500
    return rows
