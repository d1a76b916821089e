"""Writes what `transformers` makes of pictures and tokens, for the tests of crates/clip to compare with.

usage: clip_reference.py TINY_MODEL_FOLDER RANDOM_MODEL_FOLDER OUTPUT.safetensors, in a Python with torch, transformers, pillow
and safetensors. RANDOM_MODEL_FOLDER is what `cargo run --release -p clip --example random_model` writes with the tiny model's
tokenizer.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file
from transformers import AutoTokenizer, CLIPModel

SIZES = [(224, 224), (300, 200), (97, 411), (640, 480), (20, 30)]
TEXTS = ["a red circle", "", "three small yellow stars on the left of a green square, and nothing else", "ÉTÉ  naïve 漢字 \U0001f600", "a " * 200]
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
SMALL = 64


def drawn(width, height):
    """A picture that is the same in every language: whole numbers alone."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return Image.fromarray((((x * x * 3 + y * y * 5 + x * y * (c + 1)) // 64 + c * 50) % 256).astype(np.uint8))


def square(picture, side):
    """As CLIP's preprocessing: PIL's bicubic for the shorter side, then the middle."""
    width, height = picture.size
    scaled = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
    picture = picture.resize(scaled, Image.Resampling.BICUBIC)
    left, top = round((scaled[0] - side) / 2), round((scaled[1] - side) / 2)
    return picture.crop((left, top, left + side, top + side))


@torch.no_grad()
def main():
    tiny, random, output = map(Path, sys.argv[1:])
    pictures = [drawn(*size) for size in SIZES]
    tensors = {"squares": np.stack([np.asarray(square(picture, SMALL)) for picture in pictures])}
    for name, folder in (("tiny", tiny), ("random", random)):
        model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        config = model.config
        side = config.vision_config.image_size
        pixels = np.stack([np.asarray(square(picture, side), np.float32) / 255 for picture in pictures])
        pixels = torch.from_numpy(((pixels - MEAN) / DEVIATION).transpose(0, 3, 1, 2).copy())
        most = config.text_config.max_position_embeddings
        rows = {"images": model.get_image_features(pixel_values=pixels), "texts": []}
        for text in TEXTS:
            ids = tokenizer(text, truncation=True, max_length=most, return_tensors="pt").input_ids
            rows["texts"].append(model.get_text_features(input_ids=ids))
        for kind, found in rows.items():
            found = [one if torch.is_tensor(one) else one.pooler_output for one in (found if isinstance(found, list) else [found])]
            found = torch.cat(found)
            tensors[f"{name}.{kind}"] = (found / found.norm(dim=-1, keepdim=True)).numpy().astype(np.float32)
    save_file(tensors, output)


main()
