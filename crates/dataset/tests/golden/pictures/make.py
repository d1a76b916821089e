"""Makes the pictures of this folder: python make.py FOLDER, with Pillow 13 and numpy.

Each has four squares of 8 x 8 pixels: red, green, blue and a grey of 100.
"""

import io
import struct
import sys
import zlib

import numpy as np
from PIL import Image, ImageCms

out = sys.argv[1] + "/"
drawn = np.zeros((16, 16, 3), np.uint8)
drawn[:8, :8] = (220, 30, 40)
drawn[:8, 8:] = (20, 180, 60)
drawn[8:, :8] = (30, 50, 200)
drawn[8:, 8:] = (100, 100, 100)
picture = Image.fromarray(drawn)
grey = picture.convert("L")


def png16(values):
    """16 bits a channel, which Pillow cannot write in colour."""
    height, width = values.shape[:2]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def fixed(number):
    return struct.pack(">i", round(number * 65536))


def xyz(x, y, z):
    return b"XYZ \0\0\0\0" + fixed(x) + fixed(y) + fixed(z)


def text(words):
    return b"mluc\0\0\0\0" + struct.pack(">II4sII", 1, 12, b"enUS", len(words) * 2, 28) + words.encode("utf-16-be")


def profile(space, tags):
    """An ICC profile of version 4 (ICC.1:2022, section 7)."""
    white = xyz(0.9642, 1, 0.8249)
    tags = [(b"desc", text("linear")), (b"cprt", text("none")), (b"wtpt", white), *tags]
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for kind, data in tags:
        data += b"\0" * (-len(data) % 4)
        table += kind + struct.pack(">II", start + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"\0\0\0\0", 0x04000000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + white[8:] + b"\0" * 48
    return head + table + body


line = b"curv\0\0\0\0" + struct.pack(">IH", 1, 256) + b"\0\0"  # a gamma of 1
primaries = [
    (b"rXYZ", xyz(0.43607, 0.22249, 0.01392)),
    (b"gXYZ", xyz(0.38515, 0.71687, 0.09708)),
    (b"bXYZ", xyz(0.14307, 0.06061, 0.71410)),
]
linear = profile(b"RGB ", primaries + [(kind, line) for kind in (b"rTRC", b"gTRC", b"bTRC")])
srgb = ImageCms.createProfile("sRGB")

white = Image.new("RGB", (16, 16), (255, 255, 255))
picture.save(out + "gif.gif", save_all=True, append_images=[white], duration=100)
picture.save(out + "lzw.tiff", compression="tiff_lzw")
picture.convert("CMYK").save(out + "cmyk.tiff", compression="tiff_deflate")
Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(out + "16-bit-grey.tiff")
picture.quantize(8).save(out + "palette.png")
picture.save(out + "bmp.bmp")
picture.convert("CMYK").save(out + "cmyk.jpg", quality=95)
grey.save(out + "grey.jpg", quality=95)
columns = Image.fromarray(np.tile(np.array([255] * 8 + [0] * 8, np.uint8), (16, 1)))
Image.merge("LA", [grey, columns]).save(out + "grey-alpha.png")
with open(out + "16-bit.png", "wb") as file:
    file.write(png16(drawn.astype(np.uint32) * 257))
picture.save(out + "linear.png", icc_profile=linear)
picture.save(out + "linear.jpg", quality=95, subsampling=0, icc_profile=linear)
grey.save(out + "linear-grey.png", icc_profile=profile(b"GRAY", [(b"kTRC", line)]))
picture.save(out + "srgb.png", icc_profile=ImageCms.ImageCmsProfile(srgb).tobytes())
picture.save(out + "broken-profile.png", icc_profile=linear[:200] + b"\xff" * 60)

moved = ImageCms.profileToProfile(picture, ImageCms.ImageCmsProfile(io.BytesIO(linear)), srgb)
for name, made in (("in grey", grey), ("from linear light to sRGB", moved)):
    print(name, [made.getpixel(place) for place in ((4, 4), (12, 4), (4, 12), (12, 12))])
