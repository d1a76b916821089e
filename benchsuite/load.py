"""Reads the same packages with their usual loaders and with ours. usage: load.py PROGRAM [FOLDER]

The wheel of this project must be installed beside the peers.
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 5
SHARDS = 5
PER_SHARD = {"images": 1000, "embeddings": 10_000}
BATCH = 256

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # nobody multiplies matrices here, but its threads wait busily


def tfds_images(folder, **options):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder / "tfds/laion400m/images/1.0.0")
    return lambda: tfds.as_numpy(builder.as_dataset(split="train", **options))


def tfds_raw(folder):
    import tensorflow_datasets as tfds

    return tfds_images(folder, decoders={"image": tfds.decode.SkipDecoding()})


def tfds_embeddings(folder):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder / "tfds/laion400m/embeddings/1.0.0")
    return lambda: tfds.as_numpy(builder.as_dataset(split="train", batch_size=BATCH))


def webdataset(folder, decode):
    import webdataset as wds

    def read():
        dataset = wds.WebDataset(str(folder / "images/{00000..00004}.tar"), shardshuffle=False)
        return (dataset.decode("rgb8") if decode else dataset).to_tuple("jpg", "txt")

    return read


def hugging_face(folder, decode):
    import datasets

    shards = [str(path) for path in sorted((folder / "hf").glob("*.parquet"))]
    dataset = datasets.load_dataset("parquet", data_files=shards, split="train", cache_dir=folder / "cache")
    image = datasets.Image(decode=decode)
    dataset = dataset.cast_column("image", image)
    return lambda: dataset.with_format("numpy") if decode else dataset


def open_clip(folder):
    """The transforms and the pipeline of open_clip's training data, batches of 64 made by two workers."""
    import torchvision.transforms as T
    import webdataset as wds

    mean, deviation = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    bicubic = T.InterpolationMode.BICUBIC
    transform = T.Compose(
        [T.Resize(224, interpolation=bicubic), T.CenterCrop(224), to_rgb, T.ToTensor(), T.Normalize(mean, deviation)]
    )

    def read():
        pipeline = wds.DataPipeline(
            wds.SimpleShardList(str(folder / "images/{00000..00004}.tar")),
            wds.split_by_node,
            wds.split_by_worker,
            wds.tarfile_to_samples(handler=wds.warn_and_continue),
            wds.shuffle(bufsize=5000, initial=1000),
            wds.select(has_both),
            wds.decode("pilrgb"),
            wds.rename(image="jpg;png;jpeg;webp", text="txt"),
            wds.map_dict(image=transform, text=len),
            wds.to_tuple("image", "text"),
            wds.batched(64, partial=True),
        )
        return wds.WebLoader(pipeline, batch_size=None, num_workers=2)

    return read


def to_rgb(image):
    return image.convert("RGB")


def has_both(sample):
    return "txt" in sample and "jpg" in sample


def bare_decoder(folder):
    import cv2
    import numpy as np
    import laion400m

    cv2.setNumThreads(1)
    files = [np.frombuffer(row["image"], np.uint8) for row in laion400m.load(folder / "images", decode=False)]
    return lambda: (cv2.imdecode(file, cv2.IMREAD_COLOR) for file in files)


def mapped_matrices(folder):
    import numpy as np

    def read():
        for shard in range(SHARDS):
            matrices = [np.load(folder / f"embeddings/{kind}_emb_{shard}.npy", mmap_mode="r") for kind in ("img", "text")]
            for start in range(0, len(matrices[0]), BATCH):
                yield [np.array(matrix[start : start + BATCH]) for matrix in matrices]

    return read


def ours(folder, name, **options):
    import laion400m

    loader = laion400m.load(folder / name, **options)
    return lambda: loader


IMAGES = "tfds/laion400m/images/1.0.0"
EMBEDDINGS = "tfds/laion400m/embeddings/1.0.0"
ARRAYS = ["image_embedding", "text_embedding"]

#: What is read; who reads it, the one the ratio is taken of first; how, and how long an item is.
CASES = {
    "pictures of 256 pixels, decoded": {
        "TFDS 4.9.10, TFRecord": (tfds_images, {}),
        "webdataset 1.0.2": (webdataset, {"decode": True}),
        "datasets 5.2.0, Parquet": (hugging_face, {"decode": True}),
        "OpenCV's decoder alone": (bare_decoder, {}),
        "laion400m, TFRecord": (ours, {"name": IMAGES}),
        "laion400m, tars": (ours, {"name": "images"}),
        "laion400m, TFRecord, batches of 256": (ours, {"name": IMAGES, "batch_size": BATCH}),
    },
    "pictures scaled to 224 pixels, in batches": {
        "open_clip's pipeline": (open_clip, {}),
        "laion400m, tars, shuffled": (ours, {"name": "images", "batch_size": BATCH, "image_size": 224, "shuffle_files": True}),
        "laion400m, TFRecord": (ours, {"name": IMAGES, "batch_size": BATCH, "image_size": 224}),
    },
    "pictures as they are stored": {
        "TFDS 4.9.10, TFRecord": (tfds_raw, {}),
        "webdataset 1.0.2": (webdataset, {"decode": False}),
        "datasets 5.2.0, Parquet": (hugging_face, {"decode": False}),
        "laion400m, TFRecord": (ours, {"name": IMAGES, "decode": False}),
        "laion400m, tars": (ours, {"name": "images", "decode": False}),
        "laion400m, TFRecord, batches of 256": (ours, {"name": IMAGES, "decode": False, "batch_size": BATCH}),
    },
    "embeddings in batches of 256": {
        "TFDS 4.9.10, TFRecord": (tfds_embeddings, {}),
        "NumPy, mapped matrices without metadata": (mapped_matrices, {}),
        "laion400m, TFRecord": (ours, {"name": EMBEDDINGS, "batch_size": BATCH}),
        "laion400m, TFRecord, without metadata": (ours, {"name": EMBEDDINGS, "batch_size": BATCH, "features": ARRAYS}),
        "laion400m, matrices": (ours, {"name": "embeddings", "batch_size": BATCH}),
        "laion400m, matrices, without metadata": (ours, {"name": "embeddings", "batch_size": BATCH, "features": ARRAYS}),
    },
}


def cpu_seconds():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def measure(folder, what, who):
    """Prints seconds and CPU seconds of some passes over the data; the first one, which warms up, is left out."""
    make, options = CASES[what][who]
    read = make(folder, **options)
    rounds = []
    for _ in range(ROUNDS + 1):
        start, cpu = time.monotonic(), cpu_seconds()
        for _ in read():
            pass
        rounds.append((time.monotonic() - start, cpu_seconds() - cpu))
    print(json.dumps([statistics.median(column) for column in zip(*rounds[1:])]))


def prepare(program, folder):
    """The inputs, packages of them, and Parquet as `datasets` wants it."""
    for config, per_shard in PER_SHARD.items():
        if not (folder / config).exists():
            maker = Path(__file__).with_name("inputs.py")
            subprocess.run([sys.executable, maker, config, folder / config, str(SHARDS), str(per_shard)], check=True)
        subprocess.run([program, "pack", folder / config, "-o", folder / "tfds", "--quiet"], check=True)
    if not (folder / "hf").exists():
        import datasets
        import laion400m

        features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
        rows = [
            {"image": {"bytes": row["image"], "path": None}, "caption": row["caption"].decode()}
            for row in laion400m.load(folder / "images", decode=False)
        ]
        (folder / "hf").mkdir()
        table = datasets.Dataset.from_list(rows, features=features)
        for shard in range(SHARDS):
            table.shard(SHARDS, shard, contiguous=True).to_parquet(folder / f"hf/train-{shard}.parquet")


def main(program, folder):
    model = next((line.split(": ")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    prepare(program, folder)
    print(f"{model or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; medians of {ROUNDS} passes")
    for what, readers in CASES.items():
        examples = SHARDS * PER_SHARD["embeddings" if what.startswith("embeddings") else "images"]
        print(f"\n| {what} | per CPU second | ratio | seconds |\n|---|---|---|---|")
        first = None
        for who in readers:
            run = subprocess.run(
                [sys.executable, __file__, "--measure", folder, what, who], check=True, capture_output=True, text=True
            )
            seconds, cpu = json.loads(run.stdout.splitlines()[-1])
            first = first or cpu
            print(f"| {who} | {examples / cpu:,.0f} | {first / cpu:.1f} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--measure":
        measure(Path(sys.argv[2]), *sys.argv[3:])
    elif len(sys.argv) > 2:
        main(sys.argv[1], Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(sys.argv[1], Path(temporary))
