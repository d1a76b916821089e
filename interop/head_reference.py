"""Writes small heads with random weights, built as LAION's are, and what PyTorch makes of them, for the tests of crates/clip.

usage: head_reference.py FOLDER, in a Python with torch, safetensors and onnx. Each head is a NAME.pth as `torch.save` writes it;
expected.safetensors has rows of unit length as `rows`, and of each head its scores by name. l14_nsfw.onnx is l14_nsfw.pth once more.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

SEED, DIMENSIONS, ROWS = 20261126, 12, 40


def chain(width, *parts):
    """Linear layers of these widths; a string is what stands between: d a Dropout, r a ReLU."""
    layers = []
    for part in parts:
        if isinstance(part, str):
            layers += [nn.ReLU() if letter == "r" else nn.Dropout(0.2) for letter in part]
        else:
            layers.append(nn.Linear(width, part))
            nn.init.kaiming_normal_(layers[-1].weight)  # so that scores are as unlike at the end as rows at the start
            width = part
    return layers


class Sequence(nn.Module):
    """The improved aesthetic predictor and the H/14 detector: all in `layers`."""

    def __init__(self, *parts):
        super().__init__()
        self.layers = nn.Sequential(*chain(*parts))

    def forward(self, rows):
        return self.layers(rows)


class Keras(nn.Module):
    """The detectors for B/32 and L/14, which were trained with Keras."""

    def __init__(self, dimensions, *widths):
        super().__init__()
        self.norm = nn.Module()
        self.norm.register_buffer("mean", torch.randn(dimensions) * 0.1)
        self.norm.register_buffer("variance", torch.rand(dimensions) * 0.1)
        for number, layer in enumerate(chain(dimensions, *widths), 1):
            setattr(self, f"linear_{number}", layer)
        self.layers = len(widths)

    def forward(self, rows):
        rows = (rows - self.norm.mean) / (self.norm.variance.sqrt() + 1e-10)
        for number in range(1, self.layers):
            rows = torch.relu(getattr(self, f"linear_{number}")(rows))
        return torch.sigmoid(getattr(self, f"linear_{self.layers}")(rows))


def heads(dimensions, narrow):
    """Every published layout, with its own widths or so many times narrower ones."""

    def wide(*widths):
        return [width if isinstance(width, str) else max(width // narrow, 8) for width in widths]

    return {
        "linear": chain(dimensions, 1)[0],
        "linearMSE": Sequence(dimensions, *wide(1024, "d", 128, "d", 64, "d", 16), 1),
        "reluMSE": Sequence(dimensions, *wide(1024, "rd", 128, "rd", 64, "rd", 16, "r"), 1),
        "h14_nsfw": Sequence(dimensions, *wide(1024, "rd", 2048, "rd", 1024, "rd", 256, "rd", 128, "rd", 16), 1),
        "b32_nsfw": Keras(dimensions, *wide(32, 32), 1),
        "l14_nsfw": Keras(dimensions, *wide(64, 512, 256), 1),
    }


@torch.no_grad()
def main():
    folder = Path(sys.argv[1])
    torch.manual_seed(SEED)
    rows = nn.functional.normalize(torch.randn(ROWS, DIMENSIONS))
    expected = {"rows": rows}
    for name, head in heads(DIMENSIONS, 128).items():
        torch.save(head.eval().state_dict(), folder / f"{name}.pth")
        expected[name] = head(rows).flatten().contiguous()
    save_file(expected, folder / "expected.safetensors")
    names, open_ = {"input_names": ["rows"], "output_names": ["scores"]}, {"rows": {0: "n"}, "scores": {0: "n"}}
    torch.onnx.export(head, (rows,), str(folder / f"{name}.onnx"), **names, dynamic_axes=open_, dynamo=False)


if __name__ == "__main__":
    main()
