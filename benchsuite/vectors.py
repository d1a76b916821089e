"""Embeddings and queries as CLIP ViT-B/32's lie, from a seed, for index.py.

usage: vectors.py FOLDER ROWS [SEED], in a venv with requirements-index.txt. It writes clip-retrieval's layout in parts of 100,000 rows
(img_emb, text_emb: unit float16 rows; metadata), `queries_image.npy` and `queries_text.npy` (2,000 unit float32 rows each, none of
them indexed), `truth_image.npy` and `truth_text.npy` (ids of the 100 nearest of img_emb by inner product, found exactly).

What is drawn, as shares of a row's squared length before it is scaled to one:

- an image is the mean of all images (45 %), its topic (200 of them, 14 %), its cluster (20,000 of them, 16 %), its own place in
  the cluster (21 %) and noise that is equal in all directions (4 %). So two images have a cosine of 0.45, of one cluster 0.75, and
  more in narrow clusters: how far a cluster spreads is drawn as well, log-normal. Clusters hold rows by Zipf's law.
- topic, cluster and place are normal with variances that decay by a power law along the same axes, the place's slower, as the
  singular values of real embeddings do. The participation ratio of the centred rows is about 90 of 512.
- a text is its own mean (60 %, off the images' mean: the modality gap), what it says of an image (its topic, its cluster and little
  of its place) and what only texts have, along the images' axes and along others. Unrelated pairs have a cosine near 0.12, a text and
  its own image 0.33, LAION's line being 0.3, and without the means 0.4. The best ten of a million images have 0.35 to 0.33.
- an image query is another image of the same distribution, a text query the text of such an image.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

DIMENSIONS = 512
PART, BLOCK = 100_000, 20_000
TOPICS, CLUSTERS = 200, 20_000
QUERIES, NEAREST = 2_000, 100
MEAN, TOPIC, CLUSTER, PLACE, NOISE = 0.45, 0.14, 0.16, 0.21, 0.04
TEXT_MEAN, TEXT_SAYS, TEXT_ALONG = 0.60, 0.10, 0.20
TEXT_TO_IMAGE_MEAN = 0.18
THINGS = "car dress house dog ring phone table shoe flower beach bike cake lamp watch poster city tree cat shirt guitar".split()
KINDS = "red vintage wooden small blue modern black handmade golden old".split()
PLACES = "on a white background,in the garden,at night,for sale,by the sea,with free shipping,from above,in Paris,on the wall,close up".split(",")


def spectrum(power):
    """Variances along the axes, with sum one."""
    variances = (np.arange(DIMENSIONS) + 12.0) ** -power
    return (variances / variances.sum()).astype(np.float32)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class World:
    """The means, topics and clusters, all along the axes; `turn` mixes these into dimensions."""

    def __init__(self, seed):
        self.seed = seed
        draw = np.random.default_rng([seed, 0])
        self.turn = np.linalg.qr(draw.standard_normal((DIMENSIONS, DIMENSIONS)))[0].astype(np.float32)
        self.steep, self.slow = np.sqrt(spectrum(1.6)), np.sqrt(spectrum(1.2))
        self.mean = unit(draw.standard_normal((1, DIMENSIONS), dtype=np.float32))
        off = draw.standard_normal((1, DIMENSIONS), dtype=np.float32)
        off = unit(off - (off @ self.mean.T) * self.mean)
        share = TEXT_TO_IMAGE_MEAN / np.sqrt(TEXT_MEAN)
        self.text_mean = share * self.mean + np.sqrt(1 - share**2) * off
        self.topics = draw.standard_normal((TOPICS, DIMENSIONS), dtype=np.float32) * self.steep
        self.clusters = draw.standard_normal((CLUSTERS, DIMENSIONS), dtype=np.float32) * self.steep
        self.topic_of = draw.integers(0, TOPICS, CLUSTERS)
        self.spread = np.exp(draw.normal(-0.1, 0.35, CLUSTERS)).astype(np.float32)
        weights = 1 / (np.arange(CLUSTERS) + 30.0) ** 0.8
        self.weights = weights / weights.sum()

    def draw(self, part, count):
        """Images, their texts, and the clusters that they are of."""
        draw = np.random.default_rng([self.seed, 1, part])
        cluster = draw.choice(CLUSTERS, count, p=self.weights)

        def normal():
            return draw.standard_normal((count, DIMENSIONS), dtype=np.float32)

        place = normal() * self.slow * self.spread[cluster, None]
        of = np.sqrt(TOPIC) * self.topics[self.topic_of[cluster]] + np.sqrt(CLUSTER) * self.clusters[cluster]
        images = np.sqrt(MEAN) * self.mean + of + np.sqrt(PLACE) * place + np.sqrt(NOISE / DIMENSIONS) * normal()
        says = unit(of + 0.5 * np.sqrt(PLACE) * place)
        texts = np.sqrt(TEXT_MEAN) * self.text_mean + np.sqrt(TEXT_SAYS) * says + np.sqrt(TEXT_ALONG) * normal() * self.slow
        texts += np.sqrt((1 - TEXT_MEAN - TEXT_SAYS - TEXT_ALONG) / DIMENSIONS) * normal()
        return unit(images @ self.turn), unit(texts @ self.turn), cluster


def metadata(start, images, texts, cluster, topic_of):
    rows = np.arange(start, start + len(cluster))
    captions = [
        f"{KINDS[at % len(KINDS)]} {THINGS[topic % len(THINGS)]} {PLACES[row % len(PLACES)]}"
        for row, at, topic in zip(rows.tolist(), cluster.tolist(), topic_of[cluster].tolist())
    ]
    return pyarrow.table({
        "image_path": [f"{row:09d}" for row in rows.tolist()],
        "caption": captions,
        "url": [f"https://host{at % 997}.example/{row}.jpg" for row, at in zip(rows.tolist(), cluster.tolist())],
        "nsfw": ["UNLIKELY"] * len(rows),
        "similarity": np.einsum("ij,ij->i", images, texts).astype(np.float32),
    })


def truth(folder, queries):
    """Ids of the nearest rows of img_emb and their inner products, exactly, block by block."""
    scores, ids = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for path, start in parts(folder):
        rows = np.load(path, mmap_mode="r")
        for block in range(0, len(rows), BLOCK):
            found = queries @ rows[block : block + BLOCK].astype(np.float32).T
            best = np.argpartition(found, -NEAREST, axis=1)[:, -NEAREST:] if found.shape[1] > NEAREST else np.arange(found.shape[1])[None].repeat(len(queries), 0)
            scores = np.hstack([scores, np.take_along_axis(found, best, 1)])
            ids = np.hstack([ids, best + start + block])
            best = np.argsort(-scores, axis=1, kind="stable")[:, :NEAREST]
            scores, ids = np.take_along_axis(scores, best, 1), np.take_along_axis(ids, best, 1)
    return ids, scores


def parts(folder):
    """Paths of img_emb in the order of their numbers, with the id of each one's first row."""
    start = 0
    for path in sorted(Path(folder, "img_emb").iterdir(), key=lambda path: int(path.stem.rsplit("_")[-1])):
        yield path, start
        start += len(np.load(path, mmap_mode="r"))


def main():
    folder, rows, seed = Path(sys.argv[1]), int(sys.argv[2]), int((sys.argv[3:] or ["7"])[0])
    for name in ("img_emb", "text_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    world = World(seed)
    digits = len(str(-(-rows // PART)))
    for part, start in enumerate(range(0, rows, PART)):
        images, texts, cluster = world.draw(part, min(PART, rows - start))
        np.save(folder / f"img_emb/img_emb_{part:0{digits}d}.npy", images.astype(np.float16))
        np.save(folder / f"text_emb/text_emb_{part:0{digits}d}.npy", texts.astype(np.float16))
        table = metadata(start, images, texts, cluster, world.topic_of)
        pyarrow.parquet.write_table(table, folder / f"metadata/metadata_{part:0{digits}d}.parquet")
    images, texts, _ = world.draw(1 << 32, QUERIES)
    for name, queries in (("image", images), ("text", texts)):
        ids, scores = truth(folder, queries)
        np.save(folder / f"queries_{name}.npy", queries.astype(np.float32))
        np.save(folder / f"truth_{name}.npy", ids)
        nearest, tenth = np.median(scores[:, 0]), np.median(scores[:, 9])
        print(f"{name} queries: cosine to the nearest {nearest:.3f}, to the tenth {tenth:.3f} (medians); seed {seed}")


if __name__ == "__main__":
    main()
