"""Downloads, against a local server that breaks off, lies, redirects, serves another file or is slow."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from fovea.data import catalog, download
from fovea.data.download import RemoteFile, fetch
from fovea.data.load import read_raw
from fovea.data.options import ReadOptions, show_nothing
from fovea.errors import DataError, RunFailedError
from tests.data.formats import Arrays, colour, pack_tar, write_cifar_binary, write_idx

CONTENT = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `answers` by path: functions of the request handler. Requests are noted as (path, Range header)."""

    answers: dict[str, Callable[[BaseHTTPRequestHandler], None]]
    seen: list[tuple[str, str | None]]

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Range")))
        self.server.answers[self.path.lstrip("/")](self)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("FOVEA_OFFLINE", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = Server(("127.0.0.1", 0), Handler)
    running.answers, running.seen = {}, []
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


def whole(handler: BaseHTTPRequestHandler, content: bytes = CONTENT) -> None:
    """An honest server that can go on in the middle."""
    start = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    handler.send_header("Content-Length", str(len(content) - start))
    handler.end_headers()
    handler.wfile.write(content[start:])


def breaking_off(after: int, times: int) -> Callable[[BaseHTTPRequestHandler], None]:
    """Sends `after` bytes and closes, the first `times` times."""
    left = [times]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if left[0] == 0:
            return whole(handler)
        left[0] -= 1
        start = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        handler.send_header("Content-Length", str(len(CONTENT) - start))
        handler.end_headers()
        handler.wfile.write(CONTENT[start : start + after])
        handler.close_connection = True
        return None

    return answer


def get(server: Server, folder: Path, *paths: str, size: int | None = None, digest: str = DIGEST) -> bytes:
    remote = RemoteFile("file.bin", digest, tuple(server.url(path) for path in paths), size)
    fetch("toy", (remote,), folder, "BY HAND", show_nothing)
    assert sorted(path.name for path in folder.iterdir() if path.name != ".lock") == ["file.bin"]
    return (folder / "file.bin").read_bytes()


def test_a_file_is_fetched_once_and_checked(server: Server, tmp_path: Path) -> None:
    server.answers["x"] = whole
    assert get(server, tmp_path / "d", "x") == CONTENT
    assert get(server, tmp_path / "d", "x") == CONTENT
    assert len(server.seen) == 1


def test_a_download_that_breaks_off_is_resumed_where_it_was(server: Server, tmp_path: Path) -> None:
    server.answers["x"] = breaking_off(100_000, times=3)
    assert get(server, tmp_path / "d", "x") == CONTENT
    assert [header for _, header in server.seen] == [None, "bytes=100000-", "bytes=200000-", "bytes=300000-"]


def test_a_download_of_an_earlier_process_is_resumed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file.bin.part").write_bytes(CONTENT[:1234])
    server.answers["x"] = whole
    assert get(server, tmp_path / "d", "x") == CONTENT
    assert server.seen == [("/x", "bytes=1234-")]


@pytest.mark.parametrize("left_over", [b"something else", CONTENT + b"more", CONTENT])
def test_a_part_file_that_is_no_beginning_of_the_file_is_thrown_away(
    server: Server, tmp_path: Path, left_over: bytes
) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if int((handler.headers.get("Range") or "bytes=0-")[6:-1]) >= len(CONTENT):
            return handler.send_error(416)
        return whole(handler)

    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file.bin.part").write_bytes(left_over)
    server.answers["x"] = answer
    assert get(server, tmp_path / "d", "x") == CONTENT


def test_a_server_that_cannot_resume_sends_it_all_again(server: Server, tmp_path: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT)

    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file.bin.part").write_bytes(CONTENT[:1234])
    server.answers["x"] = answer
    assert get(server, tmp_path / "d", "x") == CONTENT


@pytest.mark.parametrize("claim", [len(CONTENT) - 5000, len(CONTENT) + 5000])
@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_lie_about_the_length_does_no_harm(server: Server, tmp_path: Path, claim: int, size: int | None) -> None:
    def lies(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(claim))
        handler.end_headers()
        handler.wfile.write(CONTENT)
        handler.close_connection = True

    server.answers |= {"lies": lies, "honest": whole}
    assert get(server, tmp_path / "d", "lies", "honest", size=size) == CONTENT


def test_redirects_are_followed(server: Server, tmp_path: Path) -> None:
    def elsewhere(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", server.url("x"))
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.answers |= {"from": elsewhere, "x": whole}
    assert get(server, tmp_path / "d", "from") == CONTENT


def test_another_file_is_refused_and_the_next_mirror_asked(server: Server, tmp_path: Path) -> None:
    server.answers |= {
        "other": lambda handler: whole(handler, b"another file"),
        "endless": lambda handler: whole(handler, CONTENT * 3),
        "gone": lambda handler: handler.send_error(404),
        "right": whole,
    }
    assert get(server, tmp_path / "d", "other", "gone", "endless", "right", size=len(CONTENT)) == CONTENT
    with pytest.raises(RunFailedError) as caught:
        get(server, tmp_path / "e", "other", "gone", "endless", size=len(CONTENT))
    message = str(caught.value)
    for words in ("gave another file (sha256 ", "HTTP 404", f"sends more than the {len(CONTENT):,} bytes", "BY HAND"):
        assert words in message
    assert [path.name for path in (tmp_path / "e").iterdir() if path.name != ".lock"] == []


def test_a_server_that_falls_silent_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.2)
    done = threading.Event()

    def silent(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT[:1000])
        handler.wfile.flush()
        done.wait(10)

    server.answers["x"] = silent
    with pytest.raises(RunFailedError, match="timed out"):
        get(server, tmp_path / "d", "x")
    done.set()
    assert (tmp_path / "d" / "file.bin.part").stat().st_size > 0  # the next call goes on there


def test_a_slow_server_is_waited_for_and_progress_is_shown(server: Server, tmp_path: Path) -> None:
    def slow(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        for start in range(0, len(CONTENT), 100_000):
            handler.wfile.write(CONTENT[start : start + 100_000])
            handler.wfile.flush()
            time.sleep(0.02)

    shown: list[tuple[str, int, int]] = []
    server.answers["x"] = slow
    remote = RemoteFile("file.bin", DIGEST, (server.url("x"),))
    fetch("toy", (remote,), tmp_path / "d", "", lambda *args: shown.append(args))
    assert shown[-1] == ("downloading file.bin", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in shown] == sorted(done for _, done, _ in shown)


def test_two_at_once_download_once(server: Server, tmp_path: Path) -> None:
    server.answers["x"] = whole
    threads = [threading.Thread(target=get, args=(server, tmp_path / "d", "x")) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.seen) == 1


def test_a_proxy_is_honoured(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers["data.invalid/x"] = whole
    server.answers["http://data.invalid/x"] = whole
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", server.url(""))
    remote = RemoteFile("file.bin", DIGEST, ("http://data.invalid/x",))
    fetch("toy", (remote,), tmp_path / "d", "", show_nothing)
    assert (tmp_path / "d" / "file.bin").read_bytes() == CONTENT


def test_a_folder_that_cannot_be_made_is_said(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFailedError, match=r"could not be downloaded to .*file/d"):
        get(server, tmp_path / "file" / "d", "x")


def test_a_named_set_is_downloaded_read_and_found_again(
    server: Server, tmp_path: Path, toy: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx(tmp_path / "site", toy, packed=True)
    files = []
    for path in sorted((tmp_path / "site").iterdir()):
        content = path.read_bytes()
        server.answers[path.name] = lambda handler, content=content: whole(handler, content)
        files.append(RemoteFile(path.name, hashlib.sha256(content).hexdigest(), (server.url(path.name),)))
    entry = catalog.CatalogEntry(tuple("abc"), "characters", "toy", ("toy-set",), tuple(files))
    monkeypatch.setattr(catalog, "CATALOG", {"toy-set": entry})
    first = catalog.read_named("toy-set", ReadOptions())
    assert first.known is True
    assert np.array_equal(first.parts["train"].images, toy[0])
    monkeypatch.setenv("FOVEA_OFFLINE", "1")
    assert catalog.read_named("toy-set", ReadOptions()).known is True
    (tmp_path / "cache" / "fovea" / "toy-set" / files[0].name).unlink()  # half of it: the rest is fetched
    with pytest.raises(DataError, match="FOVEA_OFFLINE is set"):
        catalog.read_named("toy-set", ReadOptions())
    monkeypatch.setenv("FOVEA_OFFLINE", "")
    assert catalog.read_named("toy-set", ReadOptions()).known is True
    assert len(server.seen) == 5


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "kmnist", "cifar10", "cifar100", "emnist-letters"])
def test_offline_one_message_says_what_to_put_where(name: str) -> None:
    with pytest.raises(DataError) as caught:
        read_raw(name)
    message = str(caught.value)
    for file in catalog.CATALOG[name].files:
        assert file.name in message
        assert file.sha256 in message
        assert file.urls[0] in message
    assert "cache/fovea" in message
    assert "FOVEA_DATA" in message


def test_a_set_that_nobody_may_download_says_where_to_get_it() -> None:
    with pytest.raises(DataError, match=r"cannot be downloaded without an account: .*Kaggle"):
        read_raw("digit-recognizer")


def test_after_a_failed_download_the_next_call_goes_on(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar_binary(tmp_path / "cifar-10-batches-bin", colour())
    content = pack_tar(tmp_path / "cifar-10-batches-bin", tmp_path / "c.tar.gz", "cifar-10-batches-bin").read_bytes()
    remote = RemoteFile("cifar-10-binary.tar.gz", hashlib.sha256(content).hexdigest(), (server.url("c"),))
    entry = catalog.CatalogEntry(None, "photos", "toy", ("cifar10",), (remote,))
    monkeypatch.setattr(catalog, "CATALOG", {"cifar10": entry})
    server.answers["c"] = lambda handler: handler.send_error(404)
    with pytest.raises(RunFailedError, match="HTTP 404"):
        catalog.read_named("cifar10", ReadOptions())
    server.answers["c"] = lambda handler: whole(handler, content)
    for _ in range(2):  # downloaded, then found
        raw = catalog.read_named("cifar10", ReadOptions())
        assert raw.known is True
        assert np.array_equal(raw.parts["test"].images, colour()[0])
    assert len(server.seen) == 2
