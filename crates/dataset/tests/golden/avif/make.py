"""Makes the AVIF files of this folder, and beside each a PNG of what Pillow reads in it, upright and on white:
python make.py FOLDER, with Pillow 13 (libavif 1.4), numpy and imagecodecs.

Pillow writes 8 bits and no grids: more bits come from imagecodecs, and a grid is put together here.
"""

import io
import struct
import sys

import imagecodecs
import numpy as np
from PIL import Image, ImageOps

out = sys.argv[1] + "/"
down, across = np.mgrid[0:30, 0:38]
drawn = np.stack([across * 7 % 256, down * 8 % 256, (across + down) * 4 % 256], -1).astype(np.uint8)
drawn[4:12, 5:14] = (220, 30, 40)
picture = Image.fromarray(drawn)
opacity = Image.fromarray((across * 255 // 37).astype(np.uint8))
seen_through = Image.merge("RGBA", [*picture.split(), opacity])


def encoded(image, **options):
    file = io.BytesIO()
    image.save(file, "AVIF", **({"quality": 80, "speed": 6} | options))
    return file.getvalue()


def more_bits(bits):
    values = drawn.astype(np.uint16) << (bits - 8)
    return imagecodecs.avif_encode(values, level=80, speed=6, bitspersample=bits, pixelformat="444")


def box(kind, *content):
    content = b"".join(content)
    return struct.pack(">I", 8 + len(content)) + kind + content


def full(kind, *content, version=0, flags=0):
    return box(kind, struct.pack(">I", version << 24 | flags), *content)


def contained(file, kind):
    """The content of the first box of this kind, wherever it is."""
    at = file.index(kind)
    return file[at + 4 : at - 4 + struct.unpack(">I", file[at - 4 : at])[0]]


def grid(parts, columns, size):
    """Parts of one size as one picture (ISO/IEC 23008-12, 6.6.2.3): item 1 is the grid, the others are the parts."""
    files = [encoded(part, subsampling="4:4:4") for part in parts]
    whole = struct.pack(">BBBBHH", 0, 0, len(parts) // columns - 1, columns - 1, *size)
    data = [whole] + [contained(file, b"mdat") for file in files]
    entries = [struct.pack(">HH4s", 1 + at, 0, b"av01" if at else b"grid") + b"\0" for at in range(len(data))]
    properties = [
        full(b"ispe", struct.pack(">II", *size)),
        full(b"ispe", struct.pack(">II", *parts[0].size)),
        box(b"av1C", contained(files[0], b"av1C")),
        box(b"colr", contained(files[0], b"colr")),
    ]
    used = [struct.pack(">HBBB", 1, 2, 1, 4)]
    used += [struct.pack(">HBBBB", 2 + at, 3, 2, 0x83, 4) for at in range(len(parts))]

    def meta(start):
        places = b""
        for at, item in enumerate(data):
            places += struct.pack(">HHHII", 1 + at, 0, 1, start + sum(map(len, data[:at])), len(item))
        references = struct.pack(f">{2 + len(parts)}H", 1, len(parts), *range(2, 2 + len(parts)))
        return full(
            b"meta",
            full(b"hdlr", b"\0" * 4, b"pict", b"\0" * 13),
            full(b"pitm", struct.pack(">H", 1)),
            full(b"iloc", struct.pack(">HH", 0x4400, len(data)), places),
            full(b"iinf", struct.pack(">H", len(data)), *(full(b"infe", entry, version=2) for entry in entries)),
            full(b"iref", box(b"dimg", references)),
            box(b"iprp", box(b"ipco", *properties), full(b"ipma", struct.pack(">I", len(used)), *used)),
        )

    brands = box(b"ftyp", b"avif\0\0\0\0avifmif1miaf")
    return brands + meta(len(brands) + len(meta(0)) + 8) + box(b"mdat", *data)


def orientation(number):
    exif = Image.Exif()
    exif[0x0112] = number
    exif[0x010F] = "somebody"
    return exif


large = picture.resize((128, 64))
files = {
    "420": encoded(picture, subsampling="4:2:0"),
    "422-limited": encoded(picture, subsampling="4:2:2", range="limited"),
    "odd": encoded(picture.crop((0, 0, 37, 29)), subsampling="4:2:0"),
    "444": encoded(picture, subsampling="4:4:4"),
    "grey": encoded(picture.convert("L"), subsampling="4:0:0"),
    "alpha": encoded(seen_through),
    "premultiplied": encoded(seen_through, alpha_premultiplied=True),
    "grain": encoded(picture, advanced={"film-grain-test": "1"}),
    "sequence": encoded(picture, save_all=True, append_images=[opacity.convert("RGB")], duration=100),
    "10-bit": more_bits(10),
    "12-bit": more_bits(12),
    "grid": grid([large.crop((left, 0, left + 64, 64)) for left in (0, 64)], 2, (120, 60)),
}
files |= {f"turned-{number}": encoded(picture, exif=orientation(number)) for number in range(2, 9)}
for name, file in files.items():
    with open(f"{out}{name}.avif", "wb") as to:
        to.write(file)
    read = ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert("RGBA")
    Image.alpha_composite(Image.new("RGBA", read.size, "white"), read).convert("RGB").save(f"{out}{name}.png")

# The squares of linear light of ../pictures/make.py.
linear = Image.open(out + "../pictures/linear.png").info["icc_profile"]
squares = Image.open(out + "../pictures/linear.png").convert("RGB")
with open(out + "linear.avif", "wb") as to:
    to.write(encoded(squares, subsampling="4:4:4", quality=95, icc_profile=linear))
