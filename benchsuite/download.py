"""Downloads the same pictures with img2dataset and with ours, and compares what a picture costs the client.

usage: download.py PROGRAM [IMAGE_FOLDER], in a venv with requirements-download.txt; IMAGE_FOLDER has further JPEGs
"""

import asyncio
import io
import json
import os
import platform
import ssl
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

ROUNDS = 3
DRAWN = 500
ROWS = {"list": 2_000, "dummy": 10_000}  # of the network alone more, for img2dataset's start varies by more than 2,000 of them cost
PORTS = {"http": 18999, "https": 18998}
CLIENT, SERVER = {1}, {0}


def drawn(number):
    """A picture like a photograph, of a size as the web has them; a quarter of them have EXIF."""
    random = np.random.default_rng(number)
    width = int(np.clip(random.lognormal(6.3, 0.55), 120, 2400))
    height = int(np.clip(width * random.choice([0.56, 0.66, 0.75, 1, 1.33, 1.5]), 100, 2400))
    low = random.integers(0, 256, (max(3, height // 40), max(3, width // 40), 3), dtype=np.uint8)
    soft = np.asarray(Image.fromarray(low).resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    noise = random.normal(0, float(random.uniform(2, 14)), (height, width, 1)).astype(np.int16)
    exif = Image.Exif()
    if number % 4 == 0:
        exif[0x0110] = f"Model {number}"
    out = io.BytesIO()
    picture = Image.fromarray(np.clip(soft + noise, 0, 255).astype(np.uint8))
    picture.save(out, "JPEG", quality=int(random.integers(70, 95)), exif=exif)
    return out.getvalue()


def serve(folder):
    """Answers from memory over both protocols, and keeps connections that clients keep. Runs in a process of its own."""
    bodies = {path.name: path.read_bytes() for path in Path(folder, "pictures").iterdir()}

    async def client(reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                name = head.split(b" ", 2)[1].split(b"?")[0].decode()[1:]
                body, status = bodies.get(name, b""), b"200 OK" if name in bodies else b"404 Not Found"
                writer.write(b"HTTP/1.1 %s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % (status, len(body)))
                writer.write(body)
                await writer.drain()
                if b"connection: close" in head.lower():
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async def both():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(Path(folder, "cert.pem"), Path(folder, "key.pem"))
        await asyncio.start_server(client, "127.0.0.1", PORTS["http"], backlog=2048)
        await asyncio.start_server(client, "127.0.0.1", PORTS["https"], backlog=2048, ssl=context)
        print("ready", flush=True)
        await asyncio.Event().wait()

    asyncio.run(both())


def measured(command, environment):
    """CPU seconds and peak memory in MB of a command and its children."""
    os.sched_setaffinity(0, CLIENT)
    before = os.times()
    process = subprocess.Popen([str(part) for part in command], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, errors = process.communicate()
    after = os.times()
    assert process.returncode in (0, 1), errors.decode()
    return after.children_user + after.children_system - before.children_user - before.children_system


def draw(folder, count):
    """Pictures to serve, `N.jpg`, and a certificate to serve them with."""
    (folder / "pictures").mkdir()
    for number in range(count):
        (folder / f"pictures/{number}.jpg").write_bytes(drawn(number))
    certificate(folder)


def served(folder):
    """The process that serves them, once it does."""
    server = subprocess.Popen([sys.executable, __file__, "serve", folder], stdout=subprocess.PIPE)
    server.stdout.readline()
    return server


def main():
    program, more = sys.argv[1], sys.argv[2:]
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        draw(folder, DRAWN)
        for source in more:
            for path in sorted(Path(source).iterdir()):
                if path.suffix.lower() in (".jpg", ".jpeg"):
                    (folder / "pictures" / f"real-{path.stem}.jpg").write_bytes(path.read_bytes())
        names = sorted(path.name for path in (folder / "pictures").iterdir())
        os.sched_setaffinity(0, SERVER)
        server = served(folder)
        environment = os.environ | {
            "SSL_CERT_FILE": str(folder / "ca.pem"),
            "NO_ALBUMENTATIONS_UPDATE": "1",
            "WANDB_MODE": "disabled",
        }
        try:
            compare(program, folder, names, environment, load)
        finally:
            server.kill()


def certificate(folder):
    """Of an authority that clients are told to trust, for this machine."""
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"]
    of_authority = ["-keyout", folder / "ca.key", "-out", folder / "ca.pem", "-subj", "/CN=bench"]
    of_server = ["-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    of_server += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"]
    for options in (of_authority, of_server):
        subprocess.run([*new, *options], check=True, stderr=subprocess.DEVNULL)


def compare(program, folder, names, environment, load):
    for scheme, port in PORTS.items():
        for name, rows in (("one", 1), *ROWS.items()):
            urls = [f"{scheme}://127.0.0.1:{port}/{names[i % len(names)]}?i={i}" for i in range(rows)]
            lines = "".join(f'{url},"picture {i}, with a comma"\n' for i, url in enumerate(urls))
            (folder / f"{name}-{scheme}.csv").write_text("url,caption\n" + lines)
    runs = iter(range(1_000_000))

    def theirs(scheme, name, dummy):
        output = folder / f"out-{next(runs)}"
        command = [sys.executable, __file__, "img2dataset", folder / f"{name}-{scheme}.csv", output, "dummy" if dummy else "webdataset"]
        return measured(command, environment), output

    def ours(scheme, name, dummy):
        output = folder / f"out-{next(runs)}"
        command = [program, "download", folder / f"{name}-{scheme}.csv", "--caption-col", "caption", "-o", output, "--allow-private"]
        command += ["--quiet", "--image-bytes-min", "0", "--host-concurrency", "64"]
        command += ["--output-format", "dummy", "--disable-all-reencoding"] if dummy else []
        return measured(command, environment), output

    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the start; ", end="")
    print(f"{len(names)} pictures, {ROWS['list']} rows, {ROWS['dummy']} of the network alone, medians of {ROUNDS} rounds; img2dataset on Python {platform.python_version()}\n")
    print("| CPU milliseconds a picture | img2dataset | laion400m | ratio |")
    print("|---|---|---|---|")
    for scheme in PORTS:
        for dummy in (False, True):
            name = "dummy" if dummy else "list"
            rows = ROWS[name]
            costs = {theirs: [], ours: []}
            for _ in range(ROUNDS):
                for peer, found in costs.items():
                    start, _ = peer(scheme, "one", dummy)
                    whole, output = peer(scheme, name, dummy)
                    found.append(1000 * (whole - start) / (rows - 1))
                    stats = json.loads((output / "00000_stats.json").read_text())
                    assert (stats["count"], stats["successes"]) == (rows, rows), stats
                    if not dummy:
                        table = pq.read_table(output / "00000.parquet").to_pydict()
                        assert set(table["width"]) == {256} and all(table["sha256"])
            a, b = statistics.median(costs[theirs]), statistics.median(costs[ours])
            what = "network alone (dummy)" if dummy else "border 256, quality 95, webdataset, hashes"
            print(f"| {scheme}, {what} | {a:.2f} | {b:.2f} | {a / b:.1f} |", flush=True)


def img2dataset(urls, output, layout):
    from img2dataset import download

    dummy = layout == "dummy"
    download(
        url_list=urls,
        output_folder=output,
        output_format=layout,
        input_format="csv",
        url_col="url",
        caption_col="caption",
        processes_count=1,
        thread_count=64,
        disable_all_reencoding=dummy,
        extract_exif=not dummy,
        compute_hash=None if dummy else "sha256",
    )


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    elif sys.argv[1] == "img2dataset":
        img2dataset(*sys.argv[2:])
    else:
        main()
