"""webdataset and open_clip's own loader functions read the WebDataset packages."""

import io
import json
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import webdataset as wds
from PIL import Image

GOLDEN = Path(__file__).parent.parent / "crates/dataset/tests/golden/tfds/inputs"


@pytest.fixture(scope="module")
def packages(program, run, tmp_path_factory) -> dict[str, Path]:
    """That of a run, and that of pictures which another program has downloaded."""
    folder = tmp_path_factory.mktemp("webdataset")
    source = GOLDEN / "images-100"
    subprocess.run([program, "pack", source, "-o", folder, "--format", "webdataset", "--quiet"], check=True)
    return {"run": run / "packages/webdataset", "released": folder / "webdataset"}


def tars(folder):
    return [str(path) for path in sorted(folder.glob("*.tar"))]


def table(folder):
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.mark.parametrize("kind", ["run", "released"])
def test_webdataset_decodes_every_sample_and_its_row_is_in_the_table(packages, kind):
    folder = packages[kind]
    pipeline = wds.WebDataset(tars(folder), shardshuffle=False).decode("pil")
    samples = list(pipeline)
    rows = table(folder)
    assert [sample["__key__"] for sample in samples] == [row["key"] for row in rows]
    for sample, row in zip(samples, rows):
        assert sample["jpg"].size == (row["width"], row["height"])
        assert sample["txt"] == row["caption"] == sample["json"]["caption"]
        assert sample["json"]["url"] == row["url"]
        for name in ("LICENSE", "NSFW", "similarity", "original_width", "original_height"):
            assert sample["json"][name] == row[name]


@pytest.mark.parametrize("kind", ["run", "released"])
def test_open_clip_counts_and_reads_every_sample(packages, kind, open_clip_data):
    folder = packages[kind]
    shards = len(tars(folder))
    braces = f"{folder}/{{00000..{shards - 1:05}}}.tar"
    rows = table(folder)
    assert open_clip_data.get_dataset_size(braces) == (len(rows), shards)
    sources = [{"url": url} for url in wds.shardlists.expand_urls(braces)]
    # `tarfile_to_samples_nothrow` in its parts, for open_clip 3.3 knows no mark at the end of a tar.
    files = open_clip_data.tar_file_expander(open_clip_data.url_opener(sources), eof_value=None)
    samples = list(open_clip_data.group_by_keys_nothrow(files))
    assert all(open_clip_data.filter_no_caption_or_no_image(sample) for sample in samples)
    assert [sample["txt"].decode() for sample in samples] == [row["caption"] for row in rows]
    assert all(Image.open(io.BytesIO(sample["jpg"])).format == "JPEG" for sample in samples)


def test_pictures_another_program_left_have_their_own_rows(packages):
    """img2dataset's tables are in the order in which downloads ended, so only the key tells."""
    theirs = {}
    for path in (GOLDEN / "images-100").glob("*.tar"):
        for sample in wds.WebDataset([str(path)], shardshuffle=False):
            theirs[sample["jpg"]] = json.loads(sample["json"])
    for sample in wds.WebDataset(tars(packages["released"]), shardshuffle=False):
        ours, source = json.loads(sample["json"]), theirs.pop(sample["jpg"])
        assert (ours["url"], ours["caption"]) == (source["url"], source["caption"])
    assert not theirs
