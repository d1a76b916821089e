"""Runs and indices in Azure's store: Azurite, Microsoft's own emulator, speaks its protocol on this machine. AZURITE names its
program `azurite-blob`."""

import os
import subprocess

import pytest
from azure.storage.blob import ContainerClient

from test_stores import free_port, listening, same_index, same_run

# Everybody's account, which is built into the emulator and into its clients.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Container:
    """What is in the store, asked without anything between."""

    def __init__(self, url: str, name: str) -> None:
        self.client = ContainerClient(f"{url}/{ACCOUNT}", name, credential={"account_name": ACCOUNT, "account_key": KEY})
        self.client.create_container()

    def files(self, prefix: str) -> dict[str, bytes]:
        names = self.client.list_blob_names(name_starts_with=f"{prefix}/")
        return {name.removeprefix(f"{prefix}/"): self.client.download_blob(name).readall() for name in names}


@pytest.fixture(scope="module")
def azure(tmp_path_factory):
    """A container named lake, and what the program has to be told."""
    if "AZURITE" not in os.environ:
        pytest.skip("needs AZURITE: the program azurite-blob")
    place = ("127.0.0.1", free_port())
    options = ["--blobHost", place[0], "--blobPort", str(place[1]), "--location", tmp_path_factory.mktemp("azurite")]
    command = [os.path.abspath(os.environ["AZURITE"]), *options, "--skipApiVersionCheck", "--silent"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    listening(server, place)
    url = "http://%s:%s" % place
    yield Container(url, "lake"), {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": url}
    server.terminate()
    server.wait()


def test_a_run_in_azures_store_has_the_bytes_of_one_on_a_disk(azure, program, tmp_path, monkeypatch):
    container, told = azure
    same_run(program, tmp_path, container, "az://lake", told, 18474, monkeypatch)


def test_long_objects_go_in_parts(azure, program, tmp_path):
    container, told = azure
    same_index(program, tmp_path, container, "az://lake", told)
