"""What embedding costs with the same weights: `transformers`, open_clip, ONNX Runtime from Python, and ours.

usage: embed.py PROGRAM EMBED_SPEED MODEL PICTURES CAPTIONS, in a venv with requirements-embed.txt. EMBED_SPEED is the example of
crates/clip, MODEL a folder of a ViT-B/32 such as the example `random_model` writes, with CLIP's own tokenizer.json, PICTURES a folder
of JPEGs, CAPTIONS a file of alt texts, one on each line, as many as the batches of 32 fill.
"""

import io
import os
import platform
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from open_clip import image_transform
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

ROUNDS = 3
BATCH = 32
SAMPLES = 64


def cpu_seconds():
    """Of this process and of its children that ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def per_second(run, count):
    run()
    costs = []
    for _ in range(ROUNDS):
        start = cpu_seconds()
        run()
        costs.append((cpu_seconds() - start) / count)
    return 1 / statistics.median(costs)


class Exported:
    """A tower of `transformers` as ONNX, run as people run it."""

    def __init__(self, tower, example, names, path):
        torch.onnx.export(
            tower, example, path, input_names=names, output_names=["features"], dynamo=False,
            dynamic_axes={name: {0: "batch"} if name == "pixels" else {0: "batch", 1: "tokens"} for name in names},
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.name, self.session = names[0], onnxruntime.InferenceSession(path, options)

    def __call__(self, batch):
        return self.session.run(None, {self.name: batch})[0]


class Vision(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixels):
        return self.model.visual_projection(self.model.vision_model(pixel_values=pixels).pooler_output)


class Text(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids):
        return self.model.text_projection(self.model.text_model(input_ids=ids).pooler_output)


def ours(embed_speed, *options):
    """Pictures, texts of 77 tokens and captions a CPU second, as the example prints them."""
    run = subprocess.run([embed_speed, *options], stdout=subprocess.PIPE, text=True, check=True)
    return [float(line.rsplit(": ")[1].split()[0]) for line in run.stdout.splitlines()]


def samples(pictures, captions):
    paths = sorted(path for path in Path(pictures).iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
    return [(paths[at % len(paths)].read_bytes(), captions[at % len(captions)]) for at in range(SAMPLES)]


def write_tar(tar, found):
    tar.parent.mkdir()
    with tarfile.open(tar, "w") as out:
        for at, (picture, caption) in enumerate(found):
            for ending, content in ((".jpg", picture), (".txt", caption.encode())):
                info = tarfile.TarInfo(f"{at:09d}{ending}")
                info.size = len(content)
                out.addfile(info, io.BytesIO(content))


@torch.no_grad()
def main():
    program, embed_speed, folder, pictures, caption_file = sys.argv[1:]
    library = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
    torch.set_num_threads(1)
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start, one thread each; torch ", end="")
    print(f"{torch.__version__}, ONNX Runtime {onnxruntime.__version__}; medians of {ROUNDS} rounds\n")
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()
    exportable = CLIPModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    pixels = torch.rand(BATCH, 3, 224, 224)
    lines = Path(caption_file).read_text().splitlines()
    captions = [
        tokenizer(lines[start : start + BATCH], padding=True, truncation=True, max_length=77, return_tensors="pt").input_ids
        for start in range(0, len(lines), BATCH)
    ]
    full = tokenizer(["one two three four five six seven eight nine ten " * 8] * BATCH, truncation=True, max_length=77, return_tensors="pt").input_ids
    tokens = sum(len(ids) for ids in tokenizer(lines, truncation=True, max_length=77).input_ids) / len(lines)
    print(f"{len(lines)} captions of {tokens:.1f} tokens in the mean\n")
    with tempfile.TemporaryDirectory() as temporary:
        temporary = Path(temporary)
        vision = Exported(Vision(exportable), pixels, ["pixels"], temporary / "vision.onnx")
        text = Exported(Text(exportable), full, ["ids"], temporary / "text.onnx")


        def texts(run):
            """Each as a whole batch, and captions padded to the longest of theirs."""
            return [per_second(lambda: run(full), BATCH), per_second(lambda: [run(ids) for ids in captions], len(lines))]

        speed = (embed_speed, folder, caption_file)
        table = {
            "PyTorch": [per_second(lambda: Vision(model)(pixels), BATCH), *texts(Text(model))],
            "ONNX Runtime from Python": [per_second(lambda: vision(pixels.numpy()), BATCH), *texts(lambda ids: text(ids.numpy()))],
            "laion400m, candle": ours(*speed, "candle"),
            "laion400m, ONNX Runtime": ours(*speed, library),
            "laion400m, ONNX Runtime, int8": ours(*speed, library, "int8"),
        }
        print("| a CPU second | pictures | texts of 77 tokens | captions |")
        print("|---|---|---|---|")
        for name, rates in table.items():
            print(f"| {name} |" + "|".join(f" {rate:.1f} " for rate in rates) + "|", flush=True)

        found = samples(pictures, lines)
        write_tar(temporary / "all/00000.tar", found)
        write_tar(temporary / "one/00000.tar", found[:1])
        preprocess = image_transform(224, is_train=False)

        def theirs(images, texts):
            for start in range(0, SAMPLES, BATCH):
                part = found[start : start + BATCH]
                batch = [preprocess(Image.open(io.BytesIO(picture)).convert("RGB")) for picture, _ in part]
                ids = tokenizer([caption for _, caption in part], padding="max_length", truncation=True, max_length=77, return_tensors="pt")
                for features in (images(torch.stack(batch)), texts(ids.input_ids)):
                    features = np.asarray(features)
                    (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float16)

        def our_program(precision):
            """What all samples cost beyond the first, with which a model is opened: Python has opened its own before."""
            runs = iter(range(100))

            def run(tars):
                command = [program, "embed", temporary / tars, "-o", temporary / f"out-{precision}-{next(runs)}", "--model", folder]
                command += ["--onnxruntime", library, "--precision", precision, "--quiet"]
                subprocess.run([str(part) for part in command], stdout=subprocess.DEVNULL, check=True)

            whole, first = per_second(lambda: run("all"), SAMPLES), per_second(lambda: run("one"), 1)
            return (SAMPLES - 1) / (SAMPLES / whole - 1 / first)

        print("\n| tar of JPEGs and captions to float16, samples a CPU second | |")
        print("|---|---|")
        onnx = (lambda batch: vision(batch.numpy()), lambda ids: text(ids.numpy()))
        for name, rate in (
            ("PyTorch, PIL, 77 tokens", lambda: per_second(lambda: theirs(Vision(model), Text(model)), SAMPLES)),
            ("ONNX Runtime from Python, PIL, 77 tokens", lambda: per_second(lambda: theirs(*onnx), SAMPLES)),
            ("laion400m, float32", lambda: our_program("float32")),
            ("laion400m, int8", lambda: our_program("int8")),
        ):
            print(f"| {name} | {rate():.2f} |", flush=True)


main()
