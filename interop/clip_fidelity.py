"""Compares our embeddings with `transformers` and open_clip: a random ViT-B/32, written once by each of them.

usage: clip_fidelity.py PROGRAM TOKENIZE PICTURES [PATH_OF_ONNXRUNTIME [IMAGES]], in a Python with torch, transformers and open_clip.
TOKENIZE is the example `tokenize` of crates/clip; PICTURES a folder of pictures; IMAGES those of a run of the demo.
"""

import json
import random
import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

SEED = 20261126
WORDS = "a photo of red car & dog's naïve café über 漢字 日本語 \U0001f600 &amp; &lt;b&gt; don't 1234567 #tag @user l'été \u200d \u00a0 \ufeff İstanbul ß ﬁ x² Ⅷ ½ ‘quoted’ “text” … — THE End-of-Line <|endoftext|> <|startoftext|> \t \r\n e\u0301 \u0e01\u0e33".split(" ")


def vocabulary(folder):
    """CLIP's own, from open_clip, as `transformers` has it."""
    reference = SimpleTokenizer()
    special = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    (folder / "vocab.json").write_text(json.dumps({special.get(token, token): at for token, at in reference.encoder.items()}))
    merges = sorted(reference.bpe_ranks, key=reference.bpe_ranks.get)
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(merge) for merge in merges))
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


def texts(count):
    """Of words, of any characters, and of both."""
    chance = random.Random(SEED)
    found = []
    for at in range(count):
        if at % 3 == 0:
            found.append(" ".join(chance.choices(WORDS, k=chance.randint(0, 40))))
        else:
            most = (0x7F, 0x24F, 0x2FFF, 0x1FFFF)[at % 4]
            letters = [chr(chance.randint(1, most)) for _ in range(chance.randint(0, 60))]
            found.append("".join(letter for letter in letters if not 0xD800 <= ord(letter) <= 0xDFFF))
    return found


def tokens_are_equal(tokenize, folder, tokenizer):
    strings = texts(20_000)
    lines = "".join(json.dumps(text) + "\n" for text in strings)
    run = subprocess.run([tokenize, folder / "tokenizer.json"], input=lines.encode(), stdout=subprocess.PIPE, check=True)
    ours = [json.loads(line) for line in run.stdout.splitlines()]
    theirs = [tokenizer(text, truncation=True, max_length=77).input_ids for text in strings]
    unlike = [(text, a, b) for text, a, b in zip(strings, ours, theirs, strict=True) if a != b]
    print(f"tokens: {len(strings)} strings, {len(unlike)} unlike", *unlike[:3])
    return not unlike


def samples(pictures, captions):
    """A tar of pictures with captions, and their pixels as PIL reads them."""
    paths = sorted(path for path in Path(pictures).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    found = [(path.read_bytes(), path.suffix.lower()) for path in paths][: len(captions)]
    random_pixels = np.random.default_rng(SEED)
    while len(found) < len(captions):
        width, height = (int(side) for side in random_pixels.integers(30, 700, 2))
        low = random_pixels.integers(0, 256, (max(2, height // 20), max(2, width // 20), 3), dtype=np.uint8)
        out = BytesIO()
        Image.fromarray(low).resize((width, height), Image.Resampling.BICUBIC).save(out, "JPEG", quality=92)
        found.append((out.getvalue(), ".jpg"))
    return found


def write_tar(path, found, captions):
    with tarfile.open(path, "w") as tar:
        for at, ((picture, suffix), caption) in enumerate(zip(found, captions, strict=True)):
            for ending, content in ((suffix, picture), (".txt", caption.encode())):
                info = tarfile.TarInfo(f"{at:09d}{ending}")
                info.size = len(content)
                tar.addfile(info, BytesIO(content))


def embedded(program, tar_folder, model, output, *options):
    command = [program, "embed", tar_folder, "-o", output, "--model", model, "--no-progress", *options]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    parts = range(len(list(output.glob("img_emb/*.npy"))))
    return [np.concatenate([np.load(output / f"{kind}_emb/{kind}_emb_{part}.npy") for part in parts]).astype(np.float64) for kind in ("img", "text")]


@torch.no_grad()
def unit(model, of, batch):
    found = torch.cat([of(part) for part in batch])
    return (found / found.norm(dim=-1, keepdim=True)).double().numpy()


def compared(what, ours, theirs, least):
    cosines = [(a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1) for a, b in zip(ours, theirs, strict=True)]
    similarity = np.abs((ours[0] * ours[1]).sum(1) - (theirs[0] * theirs[1]).sum(1)).max()
    print(f"{what}: least cosine of pictures {cosines[0].min():.7f}, of texts {cosines[1].min():.7f}; similarity within {similarity:.1e}")
    return all(found.min() >= bound for found, bound in zip(cosines, least, strict=True))


def sides(program, images, folder, runtime):
    """How many rows another precision brings to the other side of 0.3, with the included model, which knows these pictures."""
    above = []
    for precision in ("float32", "int8"):
        ours = embedded(program, images, "tiny", folder / f"tiny-{precision}", *runtime, "--precision", precision)
        above.append((ours[0] * ours[1]).sum(1) >= 0.3)
    print(f"int8, included model: {(above[0] != above[1]).sum()} of {len(above[0])} rows change sides of 0.3, of which {above[0].sum()} are above")


def main():
    program, tokenize, pictures, *rest = sys.argv[1:]
    runtime = ["--onnxruntime", rest[0]] if rest else []
    torch.manual_seed(SEED)
    ended = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model_folder, clip_folder, tars = (folder / name for name in ("transformers", "open_clip", "tars"))
        for made in (model_folder, clip_folder, tars):
            made.mkdir()
        if rest[1:]:
            sides(program, rest[1], folder, runtime)
        tokenizer = vocabulary(model_folder)
        ended.append(tokens_are_equal(tokenize, model_folder, tokenizer))
        captions = [text.replace("\0", "") or "nothing" for text in texts(1500) if text.strip()][:500]
        found = samples(pictures, captions)
        write_tar(tars / "00000.tar", found, captions)

        config = CLIPConfig(text_config={"bos_token_id": 49406, "eos_token_id": 49407}, vision_config={})
        model = CLIPModel(config).float().eval()
        model.save_pretrained(model_folder)
        _, _, preprocess = open_clip.create_model_and_transforms("ViT-B-32", force_quick_gelu=True)
        pixels = torch.stack([preprocess(Image.open(BytesIO(picture)).convert("RGB")) for picture, _ in found])
        ids = [tokenizer(caption, truncation=True, max_length=77, return_tensors="pt").input_ids for caption in captions]

        def features(found):
            return found if torch.is_tensor(found) else found.pooler_output

        theirs = [
            unit(model, lambda part: features(model.get_image_features(pixel_values=part)), pixels.split(25)),
            unit(model, lambda part: features(model.get_text_features(input_ids=part)), ids),
        ]
        ended.append(compared("transformers", embedded(program, tars, model_folder, folder / "a"), theirs, (0.99999, 0.99999)))
        if runtime:
            ours = embedded(program, tars, model_folder, folder / "b", *runtime)
            ended.append(compared("transformers, ONNX Runtime", ours, theirs, (0.99999, 0.99999)))
            ours = embedded(program, tars, model_folder, folder / "c", *runtime, "--precision", "int8")
            ended.append(compared("transformers, int8", ours, theirs, (0.9995, 0.999)))

        for quick in (True, False):
            model = open_clip.create_model("ViT-B-32", force_quick_gelu=quick).float().eval()
            weights = {name: value.contiguous() for name, value in model.state_dict().items()}
            if quick:
                torch.save(weights, clip_folder / "open_clip_pytorch_model.bin")
            else:
                save_file(weights, clip_folder / "open_clip_model.safetensors")  # which is looked for first
            described = open_clip.get_model_config("ViT-B-32") | {"quick_gelu": quick}
            (clip_folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": described}))
            (clip_folder / "tokenizer.json").write_bytes((model_folder / "tokenizer.json").read_bytes())
            theirs = [
                unit(model, model.encode_image, pixels.split(25)),
                unit(model, model.encode_text, [torch.nn.functional.pad(text, (0, 77 - text.shape[1])) for text in ids]),
            ]
            for name, options in (("candle", []), ("ONNX Runtime", runtime))[: 1 + bool(runtime)]:
                output = folder / f"{quick}-{name}"
                ours = embedded(program, tars, clip_folder, output, *options)
                gelu = "quick GELU" if quick else "GELU"
                ended.append(compared(f"open_clip, {gelu}, {name}", ours, theirs, (0.99999, 0.99999)))
    sys.exit(0 if all(ended) else "some are not within their bounds")


main()
