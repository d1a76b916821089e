"""The real img2dataset and `download` on the same URLs: same keys, columns, statuses and sizes, and pixels that look alike.

IMG2DATASET names a Python that has img2dataset 1.47.0. Where it is known to be wrong (docs/img2dataset.md), only ours is looked
at.
"""

import io
import json
import os
import subprocess
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset as wds
from PIL import Image, ImageCms

IMG2DATASET = os.environ.get("IMG2DATASET")
pytestmark = pytest.mark.skipif(not IMG2DATASET, reason="IMG2DATASET names no Python")

MODES = ["no", "keep_ratio", "keep_ratio_largest", "center_crop", "border"]
# Its TFRecords need tensorflow_io, which goes with no TensorFlow of today: ours are compared with our own table.
LAYOUTS = ["webdataset", "files", "parquet", "dummy"]
# A picture whose orientation is in its EXIF, one of 16 bits and one with a profile of its own: img2dataset leaves the first
# lying, makes the second white and takes the third for sRGB.
WRONG = {"turned.jpg", "deep.png", "profile.jpg"}


def drawn(width: int, height: int, seed: int = 0) -> Image.Image:
    """Soft shapes with a little noise, like a photograph."""
    random = np.random.default_rng(seed)
    low = random.integers(0, 256, (max(3, height // 40), max(3, width // 40), 3), dtype=np.uint8)
    soft = np.asarray(Image.fromarray(low).resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    noise = random.normal(0, 3, (height, width, 1)).astype(np.int16)
    return Image.fromarray(np.clip(soft + noise, 0, 255).astype(np.uint8))


def encoded(picture: Image.Image, form: str, **more) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **more)
    return out.getvalue()


def red_is_green() -> bytes:
    """The profile of sRGB with the colours of two tags exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    places = {}
    for tag in range(int.from_bytes(profile[128:132])):
        name, *place = (profile[132 + 12 * tag + part : 136 + 12 * tag + part] for part in (0, 4, 8))
        places[bytes(name)] = [int.from_bytes(number) for number in place]
    (red, length), (green, _) = places[b"rXYZ"], places[b"gXYZ"]
    profile[red : red + length], profile[green : green + length] = (
        profile[green : green + length],
        profile[red : red + length],
    )
    return bytes(profile)


def pictures() -> dict[str, bytes]:
    sizes = [(634, 355), (300, 200), (512, 257), (512, 259), (97, 301), (256, 256), (1500, 900), (257, 255), (20, 20)]
    found = {f"{w}x{h}.jpg": encoded(drawn(w, h, w + h), "JPEG", quality=90) for w, h in sizes}
    photo = drawn(400, 300)
    found |= {
        "plain.png": encoded(photo, "PNG"),
        "grey.png": encoded(photo.convert("L"), "PNG"),
        "palette.png": encoded(photo.quantize(64), "PNG"),
        "photo.webp": encoded(photo, "WEBP", quality=90),
        "first.gif": encoded(photo.quantize(64), "GIF"),
        "photo.bmp": encoded(photo, "BMP"),
        "photo.tiff": encoded(photo, "TIFF"),
        "photo.avif": encoded(photo, "AVIF", quality=90),
        "grey.jpg": encoded(photo.convert("L"), "JPEG", quality=90),
        "cmyk.jpg": encoded(photo.convert("CMYK"), "JPEG", quality=90),
        "progressive.jpg": encoded(photo, "JPEG", quality=90, progressive=True),
    }
    see_through = photo.copy()
    see_through.putalpha(Image.linear_gradient("L").resize(photo.size))
    found["alpha.png"] = encoded(see_through, "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    found["turned.jpg"] = encoded(photo, "JPEG", quality=90, exif=exif)
    deep = np.linspace(0, 65535, 300 * 200).reshape(200, 300).astype(np.uint16)
    found["deep.png"] = encoded(Image.fromarray(deep), "PNG")
    red = Image.new("RGB", (300, 200), (255, 0, 0))
    found["profile.jpg"] = encoded(red, "JPEG", quality=95, icc_profile=red_is_green())
    found["page.jpg"] = b"<html><body>no picture here</body></html>" * 20
    found["cut.jpg"] = found["634x355.jpg"][:8000]
    found["empty.jpg"] = b""
    found["noai.jpg"] = found["300x200.jpg"]
    return found


@pytest.fixture(scope="module")
def site():
    bodies = pictures()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path[1:].split("?")[0]
            if name.startswith("moved/"):
                self.send_response(302)
                self.send_header("Location", "/" + name[6:])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            status = int(name) if name.isdigit() else 200 if name in bodies else 404
            body = bodies.get(name, b"")
            self.send_response(status)
            if name == "noai.jpg":
                self.send_header("X-Robots-Tag", "noai")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    names = [*bodies, "moved/300x200.jpg", "403", "404", "500", "none.jpg"]
    yield f"http://127.0.0.1:{server.server_port}", names
    server.shutdown()


def settings() -> dict[str, dict]:
    runs = {f"jpg-{mode}": {"resize_mode": mode} for mode in MODES}
    runs |= {f"{form}-border": {"encode_format": form} for form in ("png", "webp")}
    runs["png-border"]["encode_quality"] = 6
    runs["bigger"] = {"resize_mode": "keep_ratio_largest", "resize_only_if_bigger": True}
    runs["limits"] = {"min_image_size": 100, "max_image_area": 500_000, "max_aspect_ratio": 1.9}
    runs |= {layout: {"output_format": layout} for layout in LAYOUTS[1:]}
    return runs


OURS = {
    "min_image_size": "image-side-min",
    "max_image_area": "image-area-max",
    "max_aspect_ratio": "aspect-ratio-max",
}


@pytest.fixture(scope="module")
def runs(site, program, tmp_path_factory) -> dict[str, tuple[Path, Path]]:
    """Folders of img2dataset's output and of ours, by the names of their settings."""
    url, names = site
    folder = tmp_path_factory.mktemp("img2dataset")
    urls = folder / "list.csv"
    urls.write_text("url,text,id,score\n" + "".join(f"{url}/{n},a {n},{i},{i / 8}\n" for i, n in enumerate(names)))
    calls, found = [], {}
    for name, more in settings().items():
        theirs, ours = folder / f"theirs-{name}", folder / f"ours-{name}"
        found[name] = (theirs, ours)
        common = {"output_format": "webdataset"} | more
        calls.append(
            dict(url_list=str(urls), input_format="csv", url_col="url", caption_col="text", output_folder=str(theirs))
            | dict(save_additional_columns=["id", "score"])
            | common
        )
        flags = [f"--{OURS.get(flag, flag).replace('_', '-')}={value}" for flag, value in common.items() if value is not True]
        flags += [f"--{flag.replace('_', '-')}" for flag, value in common.items() if value is True]
        ended = subprocess.run(
            [program, "download", urls, "--caption-col", "text", "--save-additional-columns", "id,score", "-o", ours]
            + ["--allow-private", "--image-bytes-min", "0", "--retries", "0", "--quiet", *flags],
            check=False,
        )
        assert ended.returncode == 1, "some rows fail"
    lines = "\n".join(map(json.dumps, calls))
    subprocess.run([IMG2DATASET, Path(__file__).parent / "img2dataset_runs.py"], input=lines, text=True, check=True)
    return found


def table(folder: Path):
    return pq.read_table(folder / "00000.parquet")


def rows(folder: Path) -> dict[str, dict]:
    """By the name of the picture."""
    return {row["url"].split("/", 3)[3]: row for row in table(folder).to_pylist()}


TABLES = [name for name in settings() if name != "dummy"]


@pytest.mark.parametrize("name", TABLES)
def test_the_table_has_its_columns_in_its_order(runs, name):
    theirs, ours = (table(folder).schema for folder in runs[name])
    known = [field for field in ours if field.name in theirs.names]
    assert [(field.name, field.type) for field in known] == [(field.name, field.type) for field in theirs]


@pytest.mark.parametrize("name", TABLES)
def test_keys_statuses_and_sizes_are_the_same(runs, name):
    theirs, ours = map(rows, runs[name])
    assert set(theirs) == set(ours)  # its rows are in the order in which downloads ended
    same = ["key", "status", "caption", "url", "id", "score", "width", "height", "original_width", "original_height", "sha256"]
    for picture, row in theirs.items():
        columns = same[:6] if picture in WRONG else same
        if row["status"] != "success":
            columns = same[:6]  # it tells no sizes of what it refuses
        assert {column: ours[picture][column] for column in columns} == {column: row[column] for column in columns}, picture


def alike(a: bytes, b: bytes) -> float:
    """Peak signal to noise in decibels."""
    a, b = (np.asarray(Image.open(io.BytesIO(part)).convert("RGB"), dtype=np.float64) for part in (a, b))
    assert a.shape == b.shape
    return 10 * np.log10(255**2 / max(np.mean((a - b) ** 2), 1e-9))


def members(folder: Path) -> dict[str, bytes]:
    with tarfile.open(folder / "00000.tar") as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


@pytest.mark.parametrize("name", [name for name in settings() if name not in LAYOUTS])
def test_the_tar_has_its_members_and_pictures_look_alike(runs, name):
    theirs, ours = map(members, runs[name])
    assert sorted(theirs) == list(ours), "and ours are in the order of their names"
    by_key = {row["key"]: picture for picture, row in rows(runs[name][1]).items()}
    seen = {}
    for member, content in theirs.items():
        key, ending = member.split(".")
        if ending == "txt":
            assert ours[member] == content
        elif ending == "json":
            a, b = json.loads(content), json.loads(ours[member])
            assert set(a) <= set(b)
            assert (a["id"], a["score"], a["caption"]) == (b["id"], b["score"], b["caption"])
        elif by_key[key] not in WRONG:
            seen[by_key[key]] = alike(content, ours[member])
    assert len(seen) > 8
    assert {picture: decibels for picture, decibels in seen.items() if decibels < 35} == {}


def test_every_layout_has_the_same_files(runs):
    for layout in LAYOUTS:
        theirs, ours = runs["jpg-border" if layout == "webdataset" else layout]
        names = [
            {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
            for folder in (theirs, ours)
        ]
        # Beside them stand the marker of a finished shard and the list as it was read.
        extra = {name for name in names[1] - names[0] if name != "00000.json" and not name.startswith(".pairs/")}
        assert (names[0] - names[1], extra) == (set(), set()), layout
        stats = [json.loads((folder / "00000_stats.json").read_text()) for folder in (theirs, ours)]
        assert set(stats[0]) == set(stats[1])
        for count in ("count", "successes", "failed_to_download", "failed_to_resize"):
            assert stats[0][count] == stats[1][count], (layout, count)


def test_tensorflow_reads_our_records(site, program, tmp_path):
    tf = pytest.importorskip("tensorflow")
    url, names = site
    urls = tmp_path / "list.csv"
    urls.write_text("url,text,id\n" + "".join(f"{url}/{name},a {name},{i}\n" for i, name in enumerate(names)))
    subprocess.run(
        [program, "download", urls, "--caption-col", "text", "--save-additional-columns", "id", "-o", tmp_path / "out"]
        + ["--allow-private", "--image-bytes-min", "0", "--retries", "0", "--quiet", "--output-format", "tfrecord"],
        check=False,
    )
    kept = [row for row in table(tmp_path / "out").to_pylist() if row["status"] == "success"]
    records = tf.data.TFRecordDataset(str(tmp_path / "out/00000.tfrecord")).as_numpy_iterator()
    examples = [tf.train.Example.FromString(record).features.feature for record in records]
    assert len(examples) == len(kept) > 8
    for feature, row in zip(examples, kept):
        assert feature["key"].bytes_list.value[0].decode() == row["key"]
        assert feature["txt"].bytes_list.value[0].decode() == row["caption"]
        assert (feature["id"].int64_list.value[0], feature["width"].int64_list.value[0]) == (row["id"], row["width"])
        assert feature["license"].bytes_list.value[0] == b"", "what is unknown is an empty text, as img2dataset has it"
        assert Image.open(io.BytesIO(feature["jpg"].bytes_list.value[0])).size == (256, 256)


def test_what_it_gets_wrong_is_right(runs):
    ours = rows(runs["jpg-no"][1])
    turned = ours["turned.jpg"]
    assert (turned["width"], turned["height"], turned["original_width"]) == (300, 400, 300)
    by_key = members(runs["jpg-no"][1])
    deep = np.asarray(Image.open(io.BytesIO(by_key[ours["deep.png"]["key"] + ".jpg"])).convert("L"))
    profile = np.asarray(Image.open(io.BytesIO(by_key[ours["profile.jpg"]["key"] + ".jpg"])))
    red, green, _ = profile[100, 150]
    assert green > 250 and red < 10
    assert (deep[0, 0], 115 <= deep[100, 0] <= 140, deep[-1, -1]) == (0, True, 255)


def test_the_loaders_of_others_read_our_shard(runs, open_clip_data, clip_retrieval_reader):
    ours = runs["jpg-border"][1]
    tar = str(ours / "00000.tar")
    kept = [row for row in table(ours).to_pylist() if row["status"] == "success"]
    captions = [row["caption"] for row in kept]

    samples = list(wds.WebDataset([tar], shardshuffle=False).decode("pil"))
    assert [(sample["__key__"], sample["txt"], sample["jpg"].size) for sample in samples] == [
        (row["key"], row["caption"], (256, 256)) for row in kept
    ]
    files = open_clip_data.tar_file_expander(open_clip_data.url_opener([{"url": tar}]), eof_value=None)
    samples = [sample for sample in open_clip_data.group_by_keys_nothrow(files)]
    assert [sample["txt"].decode() for sample in samples if open_clip_data.filter_no_caption_or_no_image(sample)] == captions
    samples = clip_retrieval_reader.create_webdataset([tar], lambda image: image.size, lambda texts: texts, enable_metadata=True)
    found = [(sample["text"], sample["image_tensor"], json.loads(sample["metadata"])["id"]) for sample in samples]
    assert found == [(row["caption"], (256, 256), row["id"]) for row in kept]


@pytest.mark.parametrize("name", ["jpg-border", "png-border", "webp-border", "jpg-no", "files", "parquet"])
def test_embed_takes_the_shards_of_both(runs, program, tmp_path, name):
    found = []
    for folder, maker in zip(runs[name], ("theirs", "ours")):
        out = tmp_path / maker
        subprocess.run([program, "embed", folder, "-o", out, "--quiet"], check=True)
        image = np.load(out / "img_emb/img_emb_0.npy")
        embedded = pq.read_table(out / "metadata/metadata_0.parquet")
        kept = {row["key"]: row for row in table(folder).to_pylist() if row["status"] == "success"}
        assert sorted(embedded["key"].to_pylist()) == sorted(kept)
        assert len(image) == len(np.load(out / "text_emb/text_emb_0.npy")) == len(kept)
        for row in embedded.to_pylist():
            wanted = ["url", "caption", "width", "height", "original_width", "original_height", "id", "score", "status"]
            assert {name: row[name] for name in wanted} == {name: kept[row["key"]][name] for name in wanted}
        found.append({row["url"].split("/", 3)[3]: vector for row, vector in zip(embedded.to_pylist(), image)})
    same = set(found[0]) & set(found[1]) - WRONG
    assert len(same) > 8
    for picture in same:
        assert float(found[0][picture].astype(np.float32) @ found[1][picture].astype(np.float32)) > 0.97, picture


def test_embed_takes_a_tar_without_its_table(runs, program, tmp_path):
    theirs = runs["jpg-border"][0]
    (tmp_path / "tars").mkdir()
    (tmp_path / "tars/00000.tar").write_bytes((theirs / "00000.tar").read_bytes())
    for folder, out in ((theirs, "with"), (tmp_path / "tars", "without")):
        subprocess.run([program, "embed", folder, "-o", tmp_path / out, "--quiet"], check=True)
    image = [np.load(tmp_path / out / "img_emb/img_emb_0.npy") for out in ("with", "without")]
    rows = [pq.read_table(tmp_path / out / "metadata/metadata_0.parquet").to_pylist() for out in ("with", "without")]
    assert np.array_equal(*image)
    assert [{**row, "error_message": None} for row in rows[0]] == [{**row, "error_message": None} for row in rows[1]]
