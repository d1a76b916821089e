"""What a package holds."""

from __future__ import annotations

import os
from dataclasses import dataclass

from laion400m import _core

#: Names of the classes of ``nsfw``, in order.
NSFW = ("UNLIKELY", "UNSURE", "NSFW", "UNTAGGED")


@dataclass(frozen=True)
class Feature:
    """Type of a feature: the dtype of NumPy and the shape of one example, ``None`` where it differs."""

    dtype: str
    shape: tuple[int | None, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Info:
    """What a package holds, as ``with_info=True`` gives it."""

    folder: str
    features: dict[str, Feature]
    num_examples: int
    shard_lengths: tuple[int, ...]


_FEATURES = {
    "caption": Feature("bytes"),
    "image": Feature("uint8", (None, None, 3)),
    "image_embedding": Feature("float16", (None,)),
    "license": Feature("bytes"),
    "nsfw": Feature("int64", names=NSFW),
    "original_height": Feature("int32"),
    "original_width": Feature("int32"),
    "similarity": Feature("float64"),
    "text_embedding": Feature("float16", (None,)),
    "url": Feature("bytes"),
}


def info(dataset: _core.Dataset) -> Info:
    """Looks at a package."""
    lengths = tuple(dataset.shard_lengths)
    features = {name: _FEATURES[name] for name in dataset.features()}
    return Info(os.fspath(dataset.folder), features, sum(lengths), lengths)


def opened(
    name: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None,
    embeddings: str | os.PathLike[str] | None,
) -> _core.Dataset:
    """The package that a name or a path means, and the one its embeddings come from."""
    if "://" in os.fspath(name) or os.path.isdir(name):
        dataset = _core.Dataset.open(name)
    else:
        home = os.environ.get("TFDS_DATA_DIR") or os.path.join("~", "tensorflow_datasets")
        dataset = _core.Dataset.named(os.fspath(name), os.path.expanduser(data_dir or home))
    return dataset.with_embeddings(embeddings) if embeddings is not None else dataset


def images(decode: bool, image_size: int | None) -> int | None:
    """How the native part is told what to do with pictures."""
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size must be at least 1, not {image_size}")
    return (image_size or 0) if decode else None
