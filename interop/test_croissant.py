"""mlcroissant accepts the description of every package, and reads the records of those in Parquet."""

import logging
import subprocess
from pathlib import Path

import mlcroissant as mlc
import pytest

GOLDEN = Path(__file__).parent.parent / "crates/dataset/tests/golden/tfds/inputs"
PACKAGES = {
    "images": ["laion400m/images/1.0.0", "webdataset", "metadata", "hf"],
    "embeddings": ["laion400m/embeddings/1.0.0", "embeddings", "metadata", "hf"],
}


@pytest.fixture(scope="session")
def packages(program, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    for kind, formats in (("images", "tfds,webdataset,parquet,hf"), ("embeddings", "tfds,npy,parquet,hf")):
        arguments = [GOLDEN / f"{kind}-100", "-o", folder / kind, "--format", formats, "--quiet"]
        subprocess.run([program, "pack", *arguments], check=True)
    return folder


@pytest.mark.parametrize("package", [f"{kind}/{name}" for kind, names in PACKAGES.items() for name in names])
def test_the_description_of_a_package_is_valid_and_names_the_files(packages, package, caplog):
    folder = packages / package
    with caplog.at_level(logging.WARNING):
        dataset = mlc.Dataset(folder / "croissant.json")
    assert caplog.text == ""
    metadata = dataset.metadata
    assert "100 image-text pairs" in metadata.description and metadata.cite_as and metadata.license
    named = {file.content_url: file.sha256 for file in metadata.file_objects}
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    # Every record of a TFRecord file has a checksum of its own.
    assert set(named) == {name for name in there if name != "croissant.json" and ".tfrecord-" not in name}
    if "laion400m" not in package:  # TFRecord is no format that mlcroissant reads
        records = list(dataset.records("pairs"))
        assert len(records) == 100
        text = "pairs/TEXT" if package.endswith("metadata") else "pairs/caption"
        assert all(isinstance(record[text], bytes) for record in records)


def test_pictures_and_vectors_are_read(packages):
    record = next(iter(mlc.Dataset(packages / "images/hf/croissant.json").records("pairs")))
    assert record["pairs/image"].size == (64, 64)
    record = next(iter(mlc.Dataset(packages / "embeddings/hf/croissant.json").records("pairs")))
    assert len(record["pairs/text_embedding"]) == 512


def test_every_package_of_a_run_is_described(run):
    described = sorted(str(path.parent.relative_to(run)) for path in run.rglob("croissant.json"))
    names = ["embeddings", "metadata", "tfds/laion400m/embeddings/1.0.0", "tfds/laion400m/images/1.0.0", "webdataset"]
    assert described == [f"packages/{name}" for name in names]
    for name in names:
        mlc.Dataset(run / "packages" / name / "croissant.json")
    assert list(mlc.Dataset(run / "packages/metadata/croissant.json").records("pairs"))
