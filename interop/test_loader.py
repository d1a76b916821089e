"""The Python package against TensorFlow Datasets, NumPy, PIL, pyarrow and PyTorch."""

import importlib.util
import io
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading

import laion400m
import numpy as np
import pyarrow as pa
import pytest
import tensorflow_datasets as tfds
from PIL import Image


@pytest.fixture(scope="module")
def data_dir(run):
    return run / "packages" / "tfds"


def theirs(data_dir, config, split="train", **options):
    return tfds.as_numpy(tfds.load(f"laion400m/{config}", split=split, data_dir=data_dir, download=False, **options))


def urls(loader):
    return [example["url"] for example in loader]


@pytest.mark.parametrize("config", ["images", "embeddings"])
def test_examples_are_those_of_tfds_in_its_order(data_dir, config):
    ours = laion400m.load(config, data_dir=data_dir)
    expected = list(theirs(data_dir, config))
    assert len(ours) == len(expected)
    for mine, other in zip(ours, expected, strict=True):
        assert mine.keys() == other.keys()
        for name, value in other.items():
            if name == "image":  # TensorFlow decodes with a faster, less exact transform than PIL and OpenCV
                assert mine[name].shape == value.shape and np.abs(mine[name].astype(int) - value).mean() < 3
            else:
                assert np.array_equal(mine[name], value), name
            assert isinstance(value, bytes) or mine[name].dtype == value.dtype, name


@pytest.mark.parametrize("split", ["train[:10%]", "train[-7:]", "train[33.4%:66.6%]+train[1shard]", "train[100:200]"])
def test_splits_are_those_of_tfds(data_dir, split):
    info = tfds.builder("laion400m/images", data_dir=data_dir).info
    if "1shard" in split and info.splits["train"].num_shards < 2:
        split = split.replace("1shard", "0shard")
    expected = [example["url"] for example in theirs(data_dir, "images", split)]
    assert urls(laion400m.load("images", split=split, data_dir=data_dir, decode=False)) == expected


def test_several_splits_and_info(data_dir):
    (first, second), info = laion400m.load(
        "laion400m/images:1.0.0", split=["train[:1%]", "train[1%:]"], data_dir=data_dir, decode=False, with_info=True
    )
    assert len(first) + len(second) == info.num_examples
    assert info.features["image"].shape == (None, None, 3) and info.features["nsfw"].names[3] == "UNTAGGED"
    assert laion400m.load("images", split=None, data_dir=data_dir)["train"].info == info


def test_batches_have_arrays(data_dir):
    loader = laion400m.load("images", data_dir=data_dir, batch_size=64, image_size=224, add_tfds_id=True)
    total = loader.info.num_examples
    assert len(loader) == -(-total // 64)
    sizes = []
    for batch in loader:
        rows = len(batch["url"])
        sizes.append(rows)
        assert batch["image"].shape == (rows, 224, 224, 3) and batch["image"].dtype == np.uint8
        assert batch["nsfw"].dtype == np.int64 and batch["similarity"].dtype == np.float64
        assert batch["original_width"].dtype == np.int32
        assert batch["tfds_id"][0].startswith(b"laion400m-train.tfrecord-")
    assert sum(sizes) == total and set(sizes[:-1]) == {64}
    dropped = laion400m.load("images", data_dir=data_dir, batch_size=64, decode=False, drop_remainder=True)
    assert [len(batch["url"]) for batch in dropped] == [64] * (total // 64)


def test_pixels_are_those_of_pil(data_dir):
    raw = laion400m.load("images", split="train[:40]", data_dir=data_dir, decode=False)
    decoded = laion400m.load("images", split="train[:40]", data_dir=data_dir)
    squares = laion400m.load("images", split="train[:40]", data_dir=data_dir, image_size=96)
    for file, whole, square in zip(raw, decoded, squares, strict=True):
        picture = Image.open(io.BytesIO(file["image"])).convert("RGB")
        assert np.array_equal(whole["image"], np.asarray(picture))
        assert min(picture.size) == max(picture.size)
        # PIL's own way to a small picture: half the size out of the decoder, then the filter.
        draft = Image.open(io.BytesIO(file["image"]))
        draft.draft("RGB", (96, 96))
        shrunk = np.asarray(draft.convert("RGB").resize((96, 96), Image.BICUBIC)).astype(int)
        assert np.abs(shrunk - square["image"]).mean() < 1


def test_what_is_wanted_is_chosen_before_decoding(data_dir):
    every = list(theirs(data_dir, "embeddings"))
    median = float(np.median([example["similarity"] for example in every]))
    wanted = [example["url"] for example in every if example["similarity"] >= median and example["nsfw"] == 0]
    condition = f"similarity >= {median!r} and nsfw == UNLIKELY"
    loader = laion400m.load("embeddings", data_dir=data_dir, where=condition, batch_size=50, features=["url"])
    found = [url for batch in loader for url in batch["url"]]
    assert found == wanted and 0 < len(wanted) < len(every)
    assert set(next(iter(loader))) == {"url"}
    with pytest.raises(ValueError, match="no \"caption\" to compare"):
        laion400m.load("images", data_dir=data_dir, where="caption == cat")


def test_an_epoch_has_its_order_and_a_state_goes_on_exactly(data_dir):
    def loader():
        return laion400m.load("images", data_dir=data_dir, decode=False, batch_size=32, shuffle_files=True, seed=3, shuffle_buffer=100)

    shuffled = loader()
    first, second = [[url for batch in shuffled for url in batch["url"]] for _ in range(2)]
    assert shuffled.epoch == 2 and first != second and sorted(first) == sorted(second)
    begun = loader()
    found = []
    for number, batch in enumerate(begun):
        found += list(batch["url"])
        if number == 4:
            break
    state = json.loads(json.dumps(begun.state_dict()))
    again = loader()
    again.load_state_dict(state)
    found += [url for batch in again for url in batch["url"]]
    assert found == first
    single = laion400m.load("images", data_dir=data_dir, decode=False, shuffle_files=True, seed=3, shuffle_buffer=100)
    taken = []
    for number, example in enumerate(single):
        taken.append(example["url"])
        if number == 76:
            break
    copy = pickle.loads(pickle.dumps(single))
    assert taken + urls(copy) == first
    with pytest.raises(ValueError, match="examples"):
        laion400m.load("images", data_dir=data_dir).load_state_dict({**state, "examples": 5})


def test_any_example_can_be_asked_for(data_dir, run):
    source = laion400m.data_source("images", data_dir=data_dir, split="train[10:60]", decode=False)
    expected = [example["url"] for example in theirs(data_dir, "images", "train[10:60]")]
    assert len(source) == 50
    assert sorted(example["url"] for example in source) == sorted(expected)
    assert source[-1]["url"] == source[49]["url"]
    assert [example["url"] for example in source.__getitems__([3, 1, 3])] == [source[3]["url"], source[1]["url"], source[3]["url"]]
    assert pickle.loads(pickle.dumps(source))[7]["url"] == source[7]["url"]
    with pytest.raises(IndexError, match="no example 50"):
        source[50]
    decoded = laion400m.data_source(run / "packages" / "webdataset", image_size=64)
    assert decoded.batch([5, 0])["image"].shape == (2, 64, 64, 3)


def test_the_other_packages_hold_the_same_pairs_and_join_by_key(run, data_dir, curated):
    packages = run / "packages"
    joined = laion400m.load(packages / "webdataset", embeddings=packages / "embeddings", image_size=32, batch_size=100)
    found = {}
    for batch in joined:
        for row in range(len(batch["url"])):
            found[batch["url"][row].decode(), batch["caption"][row].decode()] = {name: batch[name][row] for name in batch}
    assert found.keys() == curated.keys()
    for pair, example in found.items():
        for name in ("image_embedding", "text_embedding"):
            assert np.array_equal(example[name], curated[pair][name])
    alone = laion400m.load(packages / "embeddings", batch_size=100)
    assert sum(len(batch["url"]) for batch in alone) == len(curated)


def test_arrow_takes_batches(data_dir):
    loader = laion400m.load("embeddings", data_dir=data_dir, batch_size=100)
    table = pa.RecordBatchReader.from_stream(loader).read_all()
    assert table.num_rows == len(list(theirs(data_dir, "embeddings")))
    assert table.schema.field("image_embedding").type.value_type == pa.float16()
    first = next(iter(laion400m.load("embeddings", data_dir=data_dir, batch_size=100)))
    assert [caption.encode() for caption in table["caption"].to_pylist()[:100]] == list(first["caption"])
    values = table["text_embedding"].combine_chunks().values.to_numpy(zero_copy_only=False)
    assert np.array_equal(values.reshape(table.num_rows, -1)[:100], first["text_embedding"])


def test_damage_names_the_file_and_the_record(data_dir, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    source = data_dir / "laion400m/images/1.0.0"
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    shard = sorted(folder.glob("*tfrecord*"))[0]
    damaged = bytearray(shard.read_bytes())
    damaged[40] ^= 1
    shard.write_bytes(damaged)
    with pytest.raises(laion400m.DamagedError, match=rf"{shard.name}.*checksum"):
        list(laion400m.load(folder, decode=False))
    loader = laion400m.load(folder, decode=False, batch_size=64, on_damage="skip")
    total = sum(len(batch["url"]) for batch in loader)
    assert total == len(laion400m.load(source)) - 1 and loader.skipped == 1
    with pytest.raises(FileNotFoundError):
        laion400m.load("images", data_dir=tmp_path / "nothing")
    with pytest.raises(ValueError, match="train\\[:5000000\\]"):
        laion400m.load("images", data_dir=data_dir, split="train[:5000000]")


def test_ctrl_c_ends_a_wait(data_dir):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
    loader = laion400m.load("images", data_dir=data_dir, batch_size=4, image_size=2048, threads=1)
    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        while True:
            for _ in loader:
                pass


def _count(loader, queue):
    queue.put(sorted(urls(loader)))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_can_use_a_loader(data_dir, method):
    loader = laion400m.load("images", split="train[:50]", data_dir=data_dir, decode=False)
    expected = sorted(urls(loader))
    begun = iter(loader)
    next(begun)
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    fresh = laion400m.load("images", split="train[:50]", data_dir=data_dir, decode=False)
    process = context.Process(target=_count, args=(fresh, queue))
    process.start()
    assert queue.get(timeout=120) == expected
    process.join()
    assert len(list(begun)) == 49


@pytest.mark.parametrize("workers", [0, 2])
def test_torch_gets_every_example_once(data_dir, workers):
    torch = pytest.importorskip("torch")
    from laion400m.torch import DataLoader, IterableDataset

    loader = laion400m.load("images", data_dir=data_dir, batch_size=16, image_size=32)
    expected = sorted(urls(laion400m.load("images", data_dir=data_dir, decode=False)))
    plain = torch.utils.data.DataLoader(IterableDataset(loader), batch_size=None, num_workers=workers)
    found = []
    for batch in plain:
        assert batch["image"].shape[1:] == (32, 32, 3) and batch["image"].dtype == torch.uint8
        found += list(batch["url"])
    assert sorted(found) == expected
    begun = DataLoader(loader, num_workers=workers)
    first = []
    for number, batch in enumerate(begun):
        first += list(batch["url"])
        if number == 5:
            break
    again = DataLoader(laion400m.load("images", data_dir=data_dir, batch_size=16, image_size=32), num_workers=3 - workers)
    again.load_state_dict(begun.state_dict())
    assert sorted(first + [url for batch in again for url in batch["url"]]) == expected


def test_the_types_are_true():
    package = os.path.dirname(laion400m.__file__)
    assert os.path.exists(os.path.join(package, "py.typed"))
    check = [sys.executable, "-m", "mypy.stubtest", "laion400m._core", "--ignore-disjoint-bases"]
    found = subprocess.run(check, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    modules = ["laion400m", *(["laion400m.torch"] if importlib.util.find_spec("torch") else [])]
    check = [sys.executable, "-m", "mypy", "--strict", *(argument for name in modules for argument in ("-m", name))]
    found = subprocess.run(check, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
