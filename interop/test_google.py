"""Runs and indices in Google's store. Its XML protocol is S3's but for who asks and for names of headers, which are translated on the
way to moto; some requests fail there.

Source: https://cloud.google.com/storage/docs/xml-api/reference-headers
"""

import json
import os
import subprocess

import pytest

import laion400m
from faults import Faults
from test_stores import SEED, Bucket, embeddings, files, lasting, moto  # noqa: F401

#: Google's names and S3's.
NAMES = {"x-goog-copy-source": "x-amz-copy-source", "x-goog-if-generation-match": "If-None-Match"}
ANYONE = "AWS4-HMAC-SHA256 Credential=anyone/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


class Google(Faults):
    def __init__(self, *behind, **faults):
        self.translations = set()
        super().__init__(*behind, **faults)

    def translated(self, headers):
        there = {"Authorization": ANYONE}
        for name, value in headers.items():
            if (known := NAMES.get(name.lower())) is not None:
                self.translations.add(known)
            if known == "If-None-Match":
                assert value == "0"  # no generation of the object yet
                value = "*"
            if name.lower() != "authorization":
                there[known or name] = value
        return there


@pytest.fixture(scope="module")
def google(moto, tmp_path_factory):  # noqa: F811
    """A bucket named lake, what the program has to be told, and what is between."""
    faults = Google(*moto, share=0.15, seed=SEED)
    account = tmp_path_factory.mktemp("google") / "account.json"
    none = {name: "" for name in ("client_email", "private_key", "private_key_id")}
    account.write_text(json.dumps({"gcs_base_url": faults.url, "disable_oauth": True, **none}))
    return Bucket(moto, "lake"), {"GOOGLE_SERVICE_ACCOUNT": str(account), "GOOGLE_ALLOW_HTTP": "true"}, faults


def test_a_run_in_googles_store_has_the_bytes_of_one_on_a_disk(google, program, tmp_path, monkeypatch):
    bucket, told, faults = google
    demo = [program, "demo", "--no-serve", "--quiet", "--pictures", "200", "--web-port", "18475", "-o"]
    subprocess.run([*demo, tmp_path / "run"], check=True)
    subprocess.run([*demo, "gs://lake/run"], check=True, env={**os.environ, **told})
    here, there = lasting(files(tmp_path / "run")), lasting(bucket.files("run"))
    assert here and here.keys() == there.keys()
    assert [name for name in here if here[name] != there[name]] == []
    assert faults.translations == set(NAMES.values()) and sum(faults.failed.values()) >= 5, faults.failed
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    ours, theirs = (laion400m.load(f"{run}/packages/webdataset", split="train") for run in (tmp_path / "run", "gs://lake/run"))
    assert [row["caption"] for row in ours] == [row["caption"] for row in theirs]


def test_long_objects_go_in_parts(google, program, tmp_path):
    bucket, told, _ = google
    embeddings(tmp_path / "embeddings")
    index = [program, "index", tmp_path / "embeddings", "--quiet", "-o"]
    subprocess.run([*index, tmp_path / "index"], check=True)
    subprocess.run([*index, "gs://lake/index"], check=True, env={**os.environ, **told})
    here, there = files(tmp_path / "index"), bucket.files("index")
    assert here == there and max(map(len, there.values())) > 16 << 20
