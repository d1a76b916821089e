"""Load LAION-400M, and datasets like it.

    import laion400m

    for batch in laion400m.load("images", split="train[:10%]", batch_size=256, image_size=224, shuffle_files=True):
        batch["image"]  # uint8, (256, 224, 224, 3)

Reads packages of TensorFlow Datasets (TFRecord, ArrayRecord, Parquet), WebDataset shards of img2dataset, and the
``img_emb_N.npy``, ``text_emb_N.npy``, ``metadata_N.parquet`` of clip-retrieval. It needs NumPy and nothing else.
"""

from laion400m._core import DamagedError
from laion400m._loader import Batch, Example, Loader, load
from laion400m._source import DataSource, data_source
from laion400m._info import Feature, Info

__all__ = [
    "Batch",
    "DamagedError",
    "DataSource",
    "Example",
    "Feature",
    "Info",
    "Loader",
    "data_source",
    "load",
]
