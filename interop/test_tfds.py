"""Real TensorFlow Datasets reads both configs, and every field of every example is that of its source row."""

import gzip
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

GOLDEN = Path(__file__).parent.parent / "crates/dataset/tests/golden/tfds"
CONFIGS = {"images": "images-3", "embeddings": "embeddings-100"}


def examples(folder, **options):
    builder = tfds.builder_from_directory(folder)
    return list(tfds.as_numpy(builder.as_dataset(split="train", **options)))


def text_fields(row):
    return {
        "caption": row["caption"].encode(),
        "url": row["url"].encode(),
        "license": (row["license"] or "?").encode(),
        "nsfw": ["UNLIKELY", "UNSURE", "NSFW", "UNTAGGED"].index(row["nsfw"]),
        "original_width": row["original_width"],
        "original_height": row["original_height"],
        # TFDS stores every float as float32, and gives it back as float64.
        "similarity": float(np.float32(row["similarity"])),
    }


@pytest.fixture(scope="session")
def pictures(run) -> dict[tuple[str, str], bytes]:
    """The image bytes of the WebDataset package, by URL and caption."""
    found = {}
    for path in sorted((run / "packages/webdataset").glob("*.tar")):
        with tarfile.open(path) as tar:
            files = {member.name: tar.extractfile(member).read() for member in tar}
        for name, content in files.items():
            if name.endswith(".json"):
                row = json.loads(content)
                found[row["url"], row["caption"]] = files[name.removesuffix(".json") + ".jpg"]
    return found


@pytest.mark.parametrize("config", CONFIGS)
def test_the_features_and_the_description_are_those_of_the_catalogue(run, config):
    folder = run / f"packages/tfds/laion400m/{config}/1.0.0"
    golden = GOLDEN / CONFIGS[config]
    assert json.loads((folder / "features.json").read_text()) == json.loads((golden / "features.json").read_text())
    ours, theirs = (json.loads((at / "dataset_info.json").read_text()) for at in (folder, golden))
    for info in (ours, theirs):
        for split in info["splits"]:
            for size in ("shardLengths", "numBytes"):
                split.pop(size)
    assert ours == theirs
    builder = tfds.builder_from_directory(folder)
    assert builder.info.full_name == f"laion400m/{config}/1.0.0"


def test_images_are_the_rows_that_were_kept(run, curated, pictures):
    folder = run / "packages/tfds/laion400m/images/1.0.0"
    raw = examples(folder, decoders={"image": tfds.decode.SkipDecoding()})
    seen = set()
    for example in raw:
        key = example["url"].decode(), example["caption"].decode()
        assert example.pop("image") == pictures[key]
        assert example == text_fields(curated[key])
        seen.add(key)
    assert len(raw) == len(seen) == len(curated)
    assert tfds.builder_from_directory(folder).info.splits["train"].num_examples == len(curated)


def test_images_decode_to_the_pictures_of_the_webdataset_package(run, pictures):
    for example in examples(run / "packages/tfds/laion400m/images/1.0.0"):
        key = example["url"].decode(), example["caption"].decode()
        expected = tf.io.decode_image(pictures[key], channels=3).numpy()
        assert example["image"].shape == (256, 256, 3)
        assert np.array_equal(example["image"], expected)


def test_embeddings_are_the_rows_that_were_kept(run, curated):
    found = examples(run / "packages/tfds/laion400m/embeddings/1.0.0")
    seen = set()
    for example in found:
        key = example["url"].decode(), example["caption"].decode()
        row = curated[key]
        for name in ("image_embedding", "text_embedding"):
            embedding = example.pop(name)
            assert embedding.dtype == np.float16 and embedding.shape == (512,)
            assert np.array_equal(embedding, row[name])
        assert example == text_fields(row)
        seen.add(key)
    assert len(found) == len(seen) == len(curated)


def test_both_configs_hold_their_examples_in_the_same_order(run):
    order = [
        [(example["url"], example["caption"]) for example in examples(
            run / f"packages/tfds/laion400m/{config}/1.0.0", shuffle_files=False
        )]
        for config in CONFIGS
    ]
    assert order[0] == order[1]


@pytest.mark.parametrize("config", CONFIGS)
def test_the_catalogues_own_name_loads_it(run, curated, config):
    dataset = tfds.load(f"laion400m/{config}", split="train", data_dir=run / "packages/tfds", download=False)
    assert len(dataset) == len(curated)


@pytest.mark.parametrize("config", CONFIGS)
def test_packed_from_files_of_laion400m_it_is_what_the_real_builder_made_of_them(program, tmp_path, config):
    subprocess.run(
        [program, "pack", GOLDEN / f"inputs/{config}-100", "-o", tmp_path / "data", "--quiet"], check=True
    )
    golden = tmp_path / f"golden/laion400m/{config}/1.0.0"
    shutil.copytree(GOLDEN / f"{config}-100", golden)
    ours, theirs = examples(tmp_path / f"data/laion400m/{config}/1.0.0"), examples(golden)
    assert len(ours) == len(theirs) == 100
    for our, their in zip(ours, theirs):
        assert our.keys() == their.keys()
        for name in our:
            assert np.array_equal(our[name], their[name]), name


@pytest.mark.parametrize("config", CONFIGS)
def test_one_folder_holds_every_file_format_and_real_readers_find_theirs(program, tmp_path, config):
    formats = "tfrecord,array_record,parquet"
    source = GOLDEN / f"inputs/{config}-100"
    subprocess.run([program, "pack", source, "-o", tmp_path, "--file-format", formats, "--quiet"], check=True)
    folder = tmp_path / f"laion400m/{config}/1.0.0"
    expected = examples(folder)
    for file_format in ("array_record", "parquet"):
        source = tfds.builder_from_directory(folder).as_data_source("train", file_format=file_format)
        assert len(source) == len(expected) == 100
        for number in (99, 0, 41):
            example = source[number]
            assert example.keys() == expected[number].keys()
            for name, value in example.items():
                if name == "image":  # other decoders, a few levels apart
                    assert np.abs(value.astype(int) - expected[number][name].astype(int)).max() <= 8
                else:
                    assert np.array_equal(value, expected[number][name]), name
    # A folder of that format alone.
    subprocess.run(
        [program, "pack", GOLDEN / f"inputs/{config}-100", "-o", tmp_path / "alone", "--file-format", "array_record"],
        check=True,
        capture_output=True,
    )
    alone = tfds.builder_from_directory(tmp_path / f"alone/laion400m/{config}/1.0.0").as_data_source("train")
    assert [example["url"] for example in alone] == [example["url"] for example in expected]


@pytest.mark.parametrize("config", CONFIGS)
def test_unsorted_examples_are_read_in_the_order_of_the_input(program, tmp_path, config):
    source = GOLDEN / f"inputs/{config}-100"
    subprocess.run([program, "pack", source, "-o", tmp_path, "--no-shuffle", "--quiet"], check=True)
    builder = tfds.builder_from_directory(tmp_path / f"laion400m/{config}/1.0.0")
    assert builder.info.disable_shuffling
    found = [example["caption"].decode() for example in examples(builder.data_dir)]
    assert found == sorted(found, key=lambda caption: [int(part) for part in caption[1 : caption.index("]")].split("/")])
    assert len(found) == 100


def test_it_packs_compressed_tars_as_real_tfds_opens_them(program, tmp_path):
    source = tmp_path / "input"
    shutil.copytree(GOLDEN / "inputs/images-100", source)
    for path in source.glob("*.tar"):
        path.write_bytes(gzip.compress(path.read_bytes()))
        with tarfile.open(path, "r:*") as tar:
            assert tar.getnames()
    for name, folder in (("packed", source), ("plain", GOLDEN / "inputs/images-100")):
        subprocess.run([program, "pack", folder, "-o", tmp_path / name, "--quiet"], check=True)
    ours, plain = (
        [file.read_bytes() for file in sorted((tmp_path / name / "laion400m/images/1.0.0").iterdir())]
        for name in ("packed", "plain")
    )
    assert ours == plain


SPLITS = """train train[:10%] train[33.4%:66.6%] train[-1%:] train[0shard] train[-3shard] train[2shard:5shard] train[:-20shard]
    train[100:377] train[-5:] train[:1%]+train[99%:] train[5%:6%]+train[:1_0]+train[7shard]""".split()


def test_examples_come_in_the_order_in_which_tfds_reads_them(program, tmp_path):
    records = list(tf.data.TFRecordDataset(str(next((GOLDEN / "images-100").glob("*.tfrecord-*")))).as_numpy_iterator())
    lengths = [37, 5, 60, 16, 32, 1, 48, 15, 17, 31, 33, 3, 64, 20, 16, 16, 2, 90, 40, 16, 7, 48, 11, 29]
    for shard, length in enumerate(lengths):
        name = f"laion400m-train.tfrecord-{shard:05}-of-{len(lengths):05}"
        with tf.io.TFRecordWriter(str(tmp_path / name)) as writer:
            for number in range(length):
                writer.write(records[number % len(records)])
    info = json.loads((GOLDEN / "images-100/dataset_info.json").read_text())
    info["splits"][0]["shardLengths"] = [str(length) for length in lengths]
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    for name in ("features.json", "nsfw.labels.txt"):
        shutil.copy(GOLDEN / "images-100" / name, tmp_path)
    builder = tfds.builder_from_directory(tmp_path)
    config = tfds.ReadConfig(add_tfds_id=True)
    for split in SPLITS:
        dataset = builder.as_dataset(split=split, read_config=config, decoders={"image": tfds.decode.SkipDecoding()})
        theirs = [example["tfds_id"].decode() for example in tfds.as_numpy(dataset)]
        ours = subprocess.run(
            [Path(program).parent / "examples/list_records", tmp_path, split],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        assert ours == theirs, split
