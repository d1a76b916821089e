"""A run of the demo, shared by all tests. LAION400M names the program."""

import importlib.util
import os
import subprocess
import sys
import types
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


@pytest.fixture(scope="session")
def without_torch():
    """Imports what asks for PyTorch and uses none of it.

    PyTorch's wheels weigh gigabytes, and reading a tar needs only names of its classes: names stand in for them, and
    everything that is called is the libraries' own code.
    """
    classes = {
        "torch": [],
        "torch.utils": [],
        "torch.utils.data": ["Dataset", "DataLoader", "SubsetRandomSampler", "IterableDataset", "get_worker_info"],
        "torch.utils.data.dataloader": ["default_collate"],
        "torch.utils.data.distributed": ["DistributedSampler"],
        "torchvision": [],
        "torchvision.datasets": [],
    }

    def load(imported):
        try:
            import torch  # noqa: F401

            return imported()
        except ImportError:
            pass
        for name, members in classes.items():
            module = types.ModuleType(name)
            for member in members:
                setattr(module, member, type(member, (), {}))
            sys.modules[name] = module
            if "." in name:
                parent, _, child = name.rpartition(".")
                setattr(sys.modules[parent], child, module)
        try:
            return imported()
        finally:
            for name in classes:
                del sys.modules[name]  # webdataset looks for PyTorch when it reads, and shall not find it

    return load


@pytest.fixture(scope="session")
def open_clip_data(without_torch):
    """`open_clip_train.data`."""
    pytest.importorskip("open_clip_train")

    def imported():
        from open_clip_train import data

        return data

    return without_torch(imported)


@pytest.fixture(scope="session")
def clip_retrieval_reader(without_torch):
    """`clip_retrieval.clip_inference.reader`, without its package, which imports models."""
    found = importlib.util.find_spec("clip_retrieval")
    if found is None:
        pytest.skip("clip-retrieval is not installed")
    path = Path(found.submodule_search_locations[0]) / "clip_inference/reader.py"

    def imported():
        spec = importlib.util.spec_from_file_location("clip_retrieval_reader", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return without_torch(imported)
