"""LAION-400M as img2dataset and clip-retrieval leave it, made of noise.

usage: inputs.py images|embeddings FOLDER SHARDS PER_SHARD
"""

import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

NSFW = ["UNLIKELY", "UNSURE", "NSFW", None]


def row(rng, key, shard, position):
    return {
        "key": key,
        "caption": f"picture {position} of shard {shard}: a few words, as alt texts have them",
        "url": f"https://example.com/{shard}/{position}.jpg",
        "similarity": float(rng.uniform(0.3, 0.45)),
        "NSFW": NSFW[position % len(NSFW)],
        "LICENSE": "?",
        "status": "success",
        "original_width": 400 + position % 1000,
        "original_height": 300,
    }


def picture(rng, side):
    """Noise without the highest frequencies: about 15 kB at 256 pixels, as photographs have."""
    small = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((side, side), Image.BICUBIC)).astype(np.int16)
    noisy = np.clip(smooth + rng.integers(-10, 11, smooth.shape), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(noisy).save(out, "JPEG", quality=76)
    return out.getvalue()


def images(folder: Path, shards: int, per_shard: int):
    """`NNNNN.tar` and `NNNNN.parquet`, keys as TFDS can read them."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    for shard in range(shards):
        rows = [row(rng, f"{position:09}", shard, position) for position in range(per_shard)]
        with tarfile.open(folder / f"{shard:05}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for each in rows:
                files = {
                    "jpg": picture(rng, 256),
                    "json": json.dumps(each, indent=4).encode(),
                    "txt": each["caption"].encode(),
                }
                for ending, content in files.items():
                    member = tarfile.TarInfo(f"{each['key']}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{shard:05}.parquet")


def embeddings(folder: Path, shards: int, per_shard: int):
    """`img_emb_N.npy`, `text_emb_N.npy` and `metadata_N.parquet`."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(2)
    for shard in range(shards):
        for kind in ("img", "text"):
            rows = rng.standard_normal((per_shard, 512), dtype=np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            np.save(folder / f"{kind}_emb_{shard}.npy", rows.astype(np.float16))
        rows = [row(rng, f"{shard:05}{position:04}", shard, position) for position in range(per_shard)]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"metadata_{shard}.parquet")


if __name__ == "__main__":
    make = {"images": images, "embeddings": embeddings}[sys.argv[1]]
    make(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
