"""What embedding costs with the same weights: `transformers`, open_clip, ONNX Runtime from Python, and ours.

usage: embed.py PROGRAM EMBED_SPEED MODEL PICTURES, in a venv with requirements-embed.txt. EMBED_SPEED is the example of crates/clip,
MODEL a folder of a ViT-B/32 such as the example `random_model` writes, with CLIP's own tokenizer.json, PICTURES a folder of JPEGs.
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
CAPTION = "a small red circle and a large blue square, on the left side of a green field"  # 18 tokens


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


def ours(embed_speed, model, *options):
    """Pictures, texts of 77 tokens and captions a CPU second, as the example prints them."""
    run = subprocess.run([embed_speed, model, *options], stdout=subprocess.PIPE, text=True, check=True)
    return [float(line.rsplit(": ")[1].split()[0]) for line in run.stdout.splitlines()]


def samples(pictures, tar):
    paths = sorted(path for path in Path(pictures).iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
    found = [paths[at % len(paths)].read_bytes() for at in range(SAMPLES)]
    with tarfile.open(tar, "w") as out:
        for at, picture in enumerate(found):
            for ending, content in ((".jpg", picture), (".txt", f"{CAPTION} {at}".encode())):
                info = tarfile.TarInfo(f"{at:09d}{ending}")
                info.size = len(content)
                out.addfile(info, io.BytesIO(content))
    return found


@torch.no_grad()
def main():
    program, embed_speed, folder, pictures = sys.argv[1:]
    library = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
    torch.set_num_threads(1)
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start, one thread each; torch ", end="")
    print(f"{torch.__version__}, ONNX Runtime {onnxruntime.__version__}; medians of {ROUNDS} rounds\n")
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()
    exportable = CLIPModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    pixels = torch.rand(BATCH, 3, 224, 224)
    captions = tokenizer([CAPTION] * BATCH, return_tensors="pt").input_ids
    full = tokenizer([CAPTION * 8] * BATCH, return_tensors="pt", truncation=True, max_length=77).input_ids
    with tempfile.TemporaryDirectory() as temporary:
        temporary = Path(temporary)
        vision = Exported(Vision(exportable), pixels, ["pixels"], temporary / "vision.onnx")
        text = Exported(Text(exportable), full, ["ids"], temporary / "text.onnx")
        table = {
            "PyTorch": [per_second(lambda: Vision(model)(pixels), BATCH)]
            + [per_second(lambda ids=ids: Text(model)(ids), BATCH) for ids in (full, captions)],
            "ONNX Runtime from Python": [per_second(lambda: vision(pixels.numpy()), BATCH)]
            + [per_second(lambda ids=ids: text(ids.numpy()), BATCH) for ids in (full, captions)],
            "laion400m, candle": ours(embed_speed, folder, "candle"),
            "laion400m, ONNX Runtime": ours(embed_speed, folder, library),
            "laion400m, ONNX Runtime, int8": ours(embed_speed, folder, library, "int8"),
        }
        print("| a CPU second | pictures | texts of 77 tokens | captions of 18 tokens |")
        print("|---|---|---|---|")
        for name, rates in table.items():
            print(f"| {name} |" + "|".join(f" {rate:.1f} " for rate in rates) + "|", flush=True)

        (temporary / "tars").mkdir()
        found = samples(pictures, temporary / "tars/00000.tar")
        preprocess = image_transform(224, is_train=False)

        def theirs(images, texts):
            for start in range(0, SAMPLES, BATCH):
                batch = [preprocess(Image.open(io.BytesIO(picture)).convert("RGB")) for picture in found[start : start + BATCH]]
                ids = tokenizer([f"{CAPTION} {at}" for at in range(start, start + BATCH)], padding="max_length", max_length=77, return_tensors="pt")
                for features in (images(torch.stack(batch)), texts(ids.input_ids)):
                    features = np.asarray(features)
                    (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float16)

        def our_program(*options):
            runs = iter(range(100))

            def run():
                command = [program, "embed", temporary / "tars", "-o", temporary / f"out-{options[-1]}-{next(runs)}", "--model", folder, "--quiet"]
                subprocess.run([str(part) for part in [*command, "--onnxruntime", library, "--precision", *options]], check=True)

            return run

        print("\n| tar of JPEGs and captions to float16, samples a CPU second | |")
        print("|---|---|")
        for name, run in {
            "PyTorch, PIL, 77 tokens": lambda: theirs(Vision(model), Text(model)),
            "ONNX Runtime from Python, PIL, 77 tokens": lambda: theirs(lambda batch: vision(batch.numpy()), lambda ids: text(ids.numpy())),
            "laion400m, float32": our_program("float32"),
            "laion400m, int8": our_program("int8"),
        }.items():
            print(f"| {name} | {per_second(run, SAMPLES):.2f} |", flush=True)


main()
