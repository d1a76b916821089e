"""What a card of NVIDIA's embeds in a second with the same weights: PyTorch, and ours.

usage: embed_cuda.py PROGRAM EMBED_SPEED MODEL TAR LIBRARY, where PyTorch, transformers and Pillow are installed. EMBED_SPEED is the
example of crates/clip, MODEL a folder of a ViT-B/32 such as the example `random_model` writes, TAR pictures and captions, of which
shards are made by repeating them, LIBRARY the folder `capi` of onnxruntime-gpu.
"""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPModel, PreTrainedTokenizerFast

SHARD = 5_000
SHARDS = 16
BATCH = 256
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def seconds(run, rounds=3):
    run()
    best = float("inf")
    for _ in range(rounds):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best


def operations(vision):
    """Of the image tower for a picture; two for a product and its sum."""
    width, hidden, layers = vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers
    patches = (vision.image_size // vision.patch_size) ** 2
    tokens = patches + 1
    block = tokens * (4 * width * width + 2 * width * hidden) + 2 * tokens * tokens * width
    return 2 * (patches * 3 * vision.patch_size**2 * width + layers * block)


def samples(tar):
    found = {}
    with tarfile.open(tar) as members:
        for member in members:
            key, _, kind = member.name.partition(".")
            found.setdefault(key, {})[kind] = members.extractfile(member).read()
    return list(found.values())


def write_shards(folder, found):
    folder.mkdir()
    first = folder / "00000.tar"
    with tarfile.open(first, "w") as out:
        for at in range(SHARD):
            for kind, content in found[at % len(found)].items():
                info = tarfile.TarInfo(f"{at:09d}.{kind}")
                info.size = len(content)
                out.addfile(info, io.BytesIO(content))
    for shard in range(1, SHARDS):
        shutil.copy(first, folder / f"{shard:05d}.tar")


class Shards(torch.utils.data.IterableDataset):
    """As people feed CLIP: a worker reads its tars, and gives batches."""

    def __init__(self, folder, tokenizer):
        self.paths, self.tokenizer = sorted(folder.glob("*.tar")), tokenizer

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        pictures, captions = [], []
        for path in self.paths[worker.id :: worker.num_workers]:
            with tarfile.open(path) as members:
                for member in members:
                    content = members.extractfile(member).read()
                    if member.name.endswith(".txt"):
                        captions.append(content.decode())
                        continue
                    picture = Image.open(io.BytesIO(content)).convert("RGB")
                    pictures.append(np.asarray(picture.resize((224, 224), Image.BICUBIC)))
                    if len(pictures) > BATCH:
                        yield self.batch(pictures[:BATCH], captions[:BATCH])
                        pictures, captions = pictures[BATCH:], captions[BATCH:]
        if pictures:
            yield self.batch(pictures, captions)

    def batch(self, pictures, captions):
        ids = self.tokenizer(captions, padding="max_length", truncation=True, max_length=77, return_tensors="pt")
        return torch.from_numpy(np.stack(pictures)), ids.input_ids


def features(tower, projection, **inputs):
    found = projection(tower(**inputs).pooler_output)
    return found / found.norm(dim=-1, keepdim=True)


def normalised(pixels):
    pixels = pixels.cuda(non_blocking=True).permute(0, 3, 1, 2).float() / 255
    mean, deviation = (torch.tensor(values, device="cuda").view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
    return ((pixels - mean) / deviation).bfloat16()


def embed(program, tars, output, folder, *options):
    command = [program, "embed", tars, "-o", output, "--model", folder, "--quiet", *options]
    start = time.perf_counter()
    subprocess.run([str(part) for part in command], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def rows(output, kind):
    return np.concatenate([np.load(path) for path in sorted((output / kind).glob("*.npy"))]).astype(np.float64)


@torch.no_grad()
def main():
    program, embed_speed, folder, tar, library = sys.argv[1:]
    print(f"{torch.cuda.get_device_name()}, {os.cpu_count()} cores, torch {torch.__version__}, {next(Path(library).glob('libonnxruntime.so.*')).name}\n", flush=True)
    square = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    peak = 2 * 8192**3 / seconds(lambda: square @ square)
    print(f"a product of matrices of 8192 x 8192 in bfloat16: {peak / 1e12:.0f} TFLOP/s")
    model = CLIPModel.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="sdpa").cuda().eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json", pad_token="<|endoftext|>")
    work = operations(model.config.vision_config)
    found = samples(tar)
    captions = [sample["txt"].decode() for sample in found]

    def line(name, *rates):
        share = f"{100 * rates[0] * work / peak:.0f} %" if rates else ""
        print(f"| {name} |" + "|".join(f" {rate:,.0f} " for rate in rates) + f"| {share} |", flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        temporary = Path(temporary)
        lines = temporary / "captions"
        lines.write_text("\n".join((captions * 50)[:8192]))
        print("\n| a second | pictures | texts of 77 tokens | captions | pictures, of the product's operations |\n|---|---|---|---|---|")
        for size in (BATCH, 1024):
            pixels = torch.randn(size, 3, 224, 224, device="cuda", dtype=torch.bfloat16)
            ids = torch.randint(5, 300, (size, 77), device="cuda")
            short = tokenizer((captions * 10)[:size], padding=True, return_tensors="pt").input_ids.cuda()
            rates = [size / seconds(lambda: features(model.vision_model, model.visual_projection, pixel_values=pixels), 10)]
            rates += [size / seconds(lambda: features(model.text_model, model.text_projection, input_ids=ids), 10) for ids in (ids, short)]
            line(f"PyTorch, bfloat16, {size} at once, already on the card", *rates)
        for precision in ("float32", "float16", "bfloat16"):
            file = next(Path(library).glob("libonnxruntime.so*"))
            run = subprocess.run([embed_speed, folder, lines, file, precision, "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            if run.returncode:
                print(f"{precision}: {run.stderr.strip()[-600:]}", flush=True)
            else:
                line(f"laion400m, {precision}, from memory", *(float(line.rsplit(": ")[1].split()[0]) for line in run.stdout.splitlines()))

        small = temporary / "small"
        small.mkdir()
        shutil.copy(tar, small / "00000.tar")
        embed(program, small, temporary / "exact", folder, "--onnxruntime", library)
        for precision in ("float16", "bfloat16"):
            output = temporary / precision
            try:
                embed(program, small, output, folder, "--onnxruntime", library, "--device", "cuda", "--precision", precision)
            except subprocess.CalledProcessError as error:
                print(error)
                continue
            least = [min((rows(temporary / "exact", kind) * rows(output, kind)).sum(1)) for kind in ("img_emb", "text_emb")]
            print(f"{precision}: least cosine to float32 on the processor {least[0]:.6f} (pictures), {least[1]:.6f} (texts)", flush=True)

        write_shards(temporary / "tars", found)
        count = SHARD * SHARDS
        print("\n| tars of JPEGs and captions to float16 files | samples a second | pictures, of the product's operations |\n|---|---|---|", flush=True)
        for run in range(2):
            line(f"laion400m, float16, run {run}", count / embed(program, temporary / "tars", temporary / f"out-{run}", folder, "--onnxruntime", library, "--device", "cuda"))

        def theirs():
            workers = min(os.cpu_count(), SHARDS)
            for pixels, ids in torch.utils.data.DataLoader(Shards(temporary / "tars", tokenizer), batch_size=None, num_workers=workers, pin_memory=True):
                for rows in (
                    features(model.vision_model, model.visual_projection, pixel_values=normalised(pixels)),
                    features(model.text_model, model.text_projection, input_ids=ids.cuda()),
                ):
                    rows.half().cpu().numpy()

        start = time.perf_counter()
        theirs()
        line("PyTorch, PIL, 77 tokens, bfloat16", count / (time.perf_counter() - start))


main()
