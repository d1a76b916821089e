"""clip-retrieval's own client against `serve`, and its own service beside `serve` on the same rows."""

import base64
import importlib.util
import re
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests


@pytest.fixture(scope="module")
def service(program, run):
    serving = subprocess.Popen([program, "serve", run, "--port", "0"], stderr=subprocess.PIPE, text=True)
    try:
        yield re.search(r"http://\S+/", serving.stderr.readline()).group()
    finally:
        serving.terminate()
        assert serving.wait(timeout=30) == 0, "it ends as it was told to"


def module_of(name):
    """A module of clip-retrieval, without its package, which imports models."""
    found = importlib.util.find_spec("clip_retrieval")
    if found is None:
        pytest.skip("clip-retrieval is not installed")
    path = Path(found.submodule_search_locations[0]) / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"clip_retrieval_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def client():
    return module_of("clip_client")


@pytest.fixture(scope="module")
def rows(run):
    """Metadata, image and text embeddings of what is indexed, row by row: shard after shard."""
    folder = run / "packages/embeddings"
    shards = sorted(int(path.stem.split("_")[-1]) for path in (folder / "metadata").glob("*.parquet"))
    metadata = pa.concat_tables(pq.read_table(folder / f"metadata/metadata_{shard}.parquet") for shard in shards)
    parts = ([np.load(folder / f"{kind}/{kind}_{shard}.npy") for shard in shards] for kind in ("img_emb", "text_emb"))
    images, texts = (np.concatenate(part).astype(np.float32) for part in parts)
    return metadata, images, texts


@pytest.fixture(scope="module")
def picture(service, tmp_path_factory):
    """A picture of the dataset that has no twin, and its key."""
    for sample in requests.get(service + "api/v1/random?seed=1&count=50", timeout=60).json()["results"]:
        near = requests.get(service + f"api/v1/search?key={sample['key']}&count=2&safe=false", timeout=60).json()
        if near["results"][1]["score"] < 0.98:
            path = tmp_path_factory.mktemp("picture") / "picture.jpg"
            path.write_bytes(requests.get(service + sample["image"][1:], timeout=60).content)
            return path, sample["key"]
    raise AssertionError("every picture has a twin")


def test_its_client_finds_by_text(service, client, run):
    asking = client.ClipClient(url=service + "knn-service", indice_name=run.name, num_images=20, deduplicate=False)
    found = asking.query(text="three large red circles on a white background")
    assert len(found) == 20
    assert sum("red" in result["caption"] for result in found[:10]) >= 6, found
    for result in found:
        assert set(result) == {"id", "similarity", "url", "image_path", "caption", "NSFW", "image"}
        assert result["NSFW"] == "UNLIKELY", "its client asks for what is safe unless it is told otherwise"
        assert base64.b64decode(result["image"]).startswith(b"\xff\xd8")
    similarities = [result["similarity"] for result in found]
    assert similarities == sorted(similarities, reverse=True)


def test_its_client_finds_a_picture(service, client, run, picture):
    path, key = picture
    found = client.ClipClient(url=service + "knn-service", indice_name=run.name).query(image=str(path))
    assert found[0]["image_path"] == key and found[0]["similarity"] > 0.99


def test_its_client_finds_an_embedding(service, client, run, rows, picture):
    metadata, images, _ = rows
    metadata = metadata.to_pylist()
    row = [row["key"] for row in metadata].index(picture[1])
    asking = client.ClipClient(
        url=service + "knn-service", indice_name=run.name, deduplicate=False, use_safety_model=False
    )
    found = asking.query(embedding_input=images[row].tolist())
    truth = images @ images[row]
    assert found[0]["id"] == row and len(found) == 40
    assert np.allclose([result["similarity"] for result in found], np.sort(truth)[::-1][:40], atol=1e-3)
    for result in found:
        assert result["similarity"] == pytest.approx(truth[result["id"]], abs=1e-3)
        assert result["caption"] == metadata[result["id"]]["caption"]


def test_a_picture_that_is_named_by_its_address_is_refused(service, client, run):
    answer = client.ClipClient(url=service + "knn-service", indice_name=run.name).query(image="http://a.com/x.jpg")
    assert "allow-image-urls" in answer["message"]


@pytest.fixture(scope="module")
def theirs(run, rows, tmp_path_factory):
    """clip-retrieval's own service over the same rows: its handlers, its reader of Parquet, a flat index of faiss."""
    for needed in ("faiss", "flask_cors", "flask_restful", "h5py", "prometheus_client"):
        pytest.importorskip(needed)
    import faiss
    from flask import Flask
    from flask_restful import Api
    from werkzeug.serving import make_server

    found = importlib.util.find_spec("clip_retrieval")
    package = types.ModuleType("clip_retrieval")
    package.__path__, package.__spec__ = list(found.submodule_search_locations), found
    patch = pytest.MonkeyPatch()
    patch.setitem(sys.modules, "clip_retrieval", package)
    if importlib.util.find_spec("torch") is None:
        # It imports PyTorch for every query, and uses it for none that is an embedding.
        patch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    back = module_of("clip_back")
    indices = []
    for matrix in rows[1:]:
        indices.append(faiss.IndexFlatIP(matrix.shape[1]))
        indices[-1].add(matrix)
    folder = tmp_path_factory.mktemp("metadata")
    pq.write_table(rows[0], folder / "metadata.parquet")
    resource = back.ClipResource(**dict.fromkeys(back.ClipResource.__dataclass_fields__))
    resource.metadata_provider = back.ParquetMetadataProvider(str(folder))
    resource.image_index, resource.text_index = indices
    resource.columns_to_return = ["url", "image_path", "caption", "NSFW"]
    resource.metadata_is_ordered_by_ivf = False
    app = Flask("clip_back")
    api, resources = Api(app), {run.name: resource}
    api.add_resource(back.Health, "/")
    api.add_resource(back.MetricsSummary, "/metrics-summary")
    api.add_resource(back.IndicesList, "/indices-list", resource_class_kwargs={"indices": list(resources)})
    api.add_resource(back.MetadataService, "/metadata", resource_class_kwargs={"clip_resources": resources})
    api.add_resource(back.KnnService, "/knn-service", resource_class_kwargs={"clip_resources": resources})
    server = make_server("127.0.0.1", 0, app)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    patch.undo()


def same(ours, theirs):
    """The same results, member by member. Equal similarities may come in another order, and be cut off there."""
    assert len(ours) == len(theirs) > 0
    similarities = [result["similarity"] for result in theirs]
    assert np.allclose([result["similarity"] for result in ours], similarities, atol=1e-5)
    by_id = {result["id"]: result for result in theirs}
    for result in ours:
        if np.sum(np.abs(np.array(similarities) - result["similarity"]) < 1e-5) > 1:
            continue
        if abs(similarities[-1] - result["similarity"]) < 1e-5:
            continue
        expected = dict(by_id[result["id"]], similarity=result["similarity"])
        if "url" in expected:
            assert base64.b64decode(result.pop("image")).startswith(b"\xff\xd8"), "the picture comes, too"
        assert result == expected


@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize("deduplicate", [False, True])
@pytest.mark.parametrize("counts", [(10, None), (5, 60), (60, 5), (0, 7)])
def test_its_own_service_answers_the_same(service, theirs, rows, run, modality, deduplicate, counts):
    images = rows[1]
    rng = np.random.default_rng(7)
    for row in rng.choice(len(images), 5, replace=False):
        # Not of length 1, as it takes them, too.
        query = (images[row] + 0.02 * rng.standard_normal(images.shape[1])).astype(np.float32)
        request = {"text": "", "embedding_input": query.tolist(), "modality": modality, "num_images": counts[0]}
        request |= {"indice_name": None if row % 2 else run.name, "deduplicate": deduplicate}
        request |= {"num_result_ids": counts[1]} if counts[1] else {}
        request |= {"aesthetic_score": "", "aesthetic_weight": "", "use_mclip": False}
        answers = [requests.post(f"{base}knn-service", json=request, timeout=60) for base in (service, theirs)]
        assert [answer.status_code for answer in answers] == [200, 200], answers[0].text
        same(*(answer.json() for answer in answers))


def test_the_smaller_addresses_answer_the_same(service, theirs, rows, run):
    for path in ("", "indices-list"):
        ours, expected = (requests.get(base + path, timeout=60) for base in (service, theirs))
        assert (ours.status_code, ours.text) == (expected.status_code, expected.text), path
        assert ours.headers["content-type"] == expected.headers["content-type"], path
    for ids in ([], [0], [3, 1, 2, 3]):
        request = {"ids": ids, "indice_name": run.name}
        ours, expected = (requests.post(base + "metadata", json=request, timeout=60).json() for base in (service, theirs))
        for result in ours:
            del result["metadata"]["image"]
        assert ours == expected
    for body in ("", "{", "no JSON"):
        ours, expected = (requests.post(base + "knn-service", data=body, timeout=60) for base in (service, theirs))
        assert (ours.status_code, expected.status_code) == (400, 400)
        assert set(ours.json()) == set(expected.json()) == {"message"}
    request = {"embedding_input": rows[1][0].tolist(), "modality": "image", "num_images": 1, "indice_name": None}
    for base in (service, theirs):
        requests.post(base + "knn-service", json=request, timeout=60)
    summaries = [requests.get(base + "metrics-summary", timeout=60).text.split("\n") for base in (service, theirs)]
    words = [[line.split()[1] for line in summary[3:]] for summary in summaries]
    assert sorted(words[0]) == sorted(words[1]), "the same steps"
