"""Runs and indices in Google's store. Its XML protocol is S3's but for who asks and for names of headers, which are translated on the
way to moto; some requests fail there.

Source: https://cloud.google.com/storage/docs/xml-api/reference-headers
"""

import json

import pytest

from faults import Faults
from test_stores import SEED, Bucket, moto, same_index, same_run  # noqa: F401

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
    same_run(program, tmp_path, bucket, "gs://lake", told, 18475, monkeypatch)
    assert faults.translations == set(NAMES.values()) and sum(faults.failed.values()) >= 5, faults.failed


def test_long_objects_go_in_parts(google, program, tmp_path):
    bucket, told, _ = google
    same_index(program, tmp_path, bucket, "gs://lake", told)
