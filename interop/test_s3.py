"""Archives in an object store: moto speaks S3's protocol on this machine, and checks the signatures of requests."""

import json
import os
import subprocess
import urllib.request
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

DATA = Path(__file__).parent.parent / "crates/pipeline/tests/data"
ARCHIVE = DATA / "real-pages.warc.wat.gz"
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


@pytest.fixture(scope="module")
def store():
    """A bucket with two archives and a listing of them, and who may read it, as variables of the environment."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    where = {"endpoint_url": f"http://{host}:{port}", "region_name": "us-east-1"}
    anyone = {**where, "aws_access_key_id": "anyone", "aws_secret_access_key": "anyone"}
    iam, s3 = boto3.client("iam", **anyone), boto3.client("s3", **anyone)
    iam.create_user(UserName="reader")
    iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=json.dumps(POLICY))
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    s3.create_bucket(Bucket="crawl")
    for name in ("a.warc.wat.gz", "b.warc.wat.gz"):
        s3.upload_file(str(ARCHIVE), "crawl", f"segments/{name}")
    s3.put_object(Bucket="crawl", Key="segments/robots.txt", Body=b"")
    s3.put_object(Bucket="crawl", Key="wat.paths", Body=b"segments/a.warc.wat.gz\nsegments/b.warc.wat.gz\n")
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": where["endpoint_url"],
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        "AWS_ALLOW_HTTP": "true",
    }
    # From here on nobody else may do anything.
    request = urllib.request.Request(f"{where['endpoint_url']}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"})
    urllib.request.urlopen(request).close()
    yield environment
    server.stop()


def collect(program, output, *inputs, environment=None):
    command = [program, "collect", *map(str, inputs), "-o", str(output), "--languages", "any"]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("inputs", [["s3://crawl/segments/*.wat.gz"], ["s3://crawl/wat.paths", "--base", "s3://crawl"]])
def test_archives_of_a_bucket_are_those_of_a_disk(program, store, tmp_path, inputs):
    for name in ("a.warc.wat.gz", "b.warc.wat.gz"):
        (tmp_path / name).write_bytes(ARCHIVE.read_bytes())
    assert collect(program, tmp_path / "disk", tmp_path / "*.wat.gz").returncode == 0
    found = collect(program, tmp_path / "bucket", *inputs, environment=store)
    assert found.returncode == 0, found.stderr
    for name in ("00000.parquet", "archives.jsonl"):
        assert (tmp_path / "bucket" / name).read_bytes() == (tmp_path / "disk" / name).read_bytes(), name


def test_what_a_bucket_will_not_give_has_a_reason(program, store, tmp_path):
    def error(*inputs, **changes):
        found = collect(program, tmp_path / "pairs", *inputs, environment={**store, **changes})
        assert found.returncode != 0
        return found.stderr

    assert "s3://crawl/none.warc.gz" in error("s3://crawl/none.warc.gz")
    assert "no such object" in error("s3://crawl/segments/*.zst")
    assert "SignatureDoesNotMatch" in error("s3://crawl/segments/a.warc.wat.gz", AWS_SECRET_ACCESS_KEY="guessed")
