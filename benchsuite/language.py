"""How well the language of captions is told, and how fast. usage: language.py PROGRAM

2,250 phrases in ten languages, 225 in each: what is seen (15), and where or how (15), as alt texts have it. They were
written for this, the same in every language (`language/phrases.json`).
"""

import collections
import gzip
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

CODES = {"en": "eng", "de": "deu", "fr": "fra", "es": "spa", "it": "ita", "pt": "por", "nl": "nld", "pl": "pol", "ru": "rus", "tr": "tur"}


def phrases():
    parts = json.loads(Path(__file__).with_name("language").joinpath("phrases.json").read_text())
    return [(code, f"{what} {where}") for code, (whats, wheres) in parts.items() for what in whats for where in wheres]


def ours(program, rows):
    """The language column of a collected archive with one page of all phrases."""
    links = [{"path": "IMG@/src", "url": f"/{number}.jpg", "alt": text} for number, (_, text) in enumerate(rows)]
    page = {"Links": links}
    header = {"WARC-Target-URI": "http://example.com/"}
    record = {"Envelope": {"Payload-Metadata": {"HTTP-Response-Metadata": {"HTML-Metadata": page}}, "WARC-Header-Metadata": header}}
    body = json.dumps(record, separators=(",", ":")).encode()
    head = f"WARC/1.0\r\nWARC-Type: metadata\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with tempfile.TemporaryDirectory() as folder:
        archive, out = Path(folder, "a.warc.wat.gz"), Path(folder, "pairs")
        archive.write_bytes(gzip.compress(head + body + b"\r\n\r\n"))
        command = [program, "collect", archive, "-o", out, "--languages", "any", "--quiet"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        table = pq.read_table(sorted(out.glob("*.parquet")))
    found = dict(zip(table["caption"].to_pylist(), table["language"].to_pylist()))
    return [found[text] for _, text in rows], None


def pycld2(rows):
    import pycld2

    start = time.process_time()
    found = [pycld2.detect(text)[2][0][1] for _, text in rows]
    return [CODES.get(code, code) for code in found], time.process_time() - start


def gcld3(rows):
    import gcld3

    detector = gcld3.NNetLanguageIdentifier(min_num_bytes=5, max_num_bytes=2000)
    start = time.process_time()
    found = [detector.FindLanguage(text=text).language for _, text in rows]
    return [CODES.get(code.split("-")[0], code) for code in found], time.process_time() - start


def main(program):
    rows = phrases()
    print("| | right | English found | of what is called English, is | µs a phrase |\n|---|---|---|---|---|")
    for name, tell in {"laion400m": lambda rows: ours(program, rows), "pycld2 0.42": pycld2, "gcld3": gcld3}.items():
        try:
            found, seconds = tell(rows)
        except ModuleNotFoundError as error:
            print(f"| {name}: {error} | | | | |")
            continue
        right = sum(code == guess for (code, _), guess in zip(rows, found)) / len(rows)
        english = [guess == "eng" for (code, _), guess in zip(rows, found) if code == "eng"]
        called = [code == "eng" for (code, _), guess in zip(rows, found) if guess == "eng"]
        time_each = f"{seconds / len(rows) * 1e6:.1f}" if seconds else ""
        shares = " | ".join(f"{share:.1%}" for share in (right, sum(english) / len(english), sum(called) / len(called)))
        print(f"| {name} | {shares} | {time_each} |")
        wrong = collections.Counter((code, guess) for (code, _), guess in zip(rows, found) if code != guess)
        print(", ".join(f"{code} as {guess or 'none'}: {count}" for (code, guess), count in wrong.most_common(12)), file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1])
