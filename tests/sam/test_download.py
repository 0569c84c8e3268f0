import contextlib
import fcntl
import hashlib
import http.server
import socket
import threading
from dataclasses import dataclass, field

import pytest

from sam.family import OfficialCheckpoint
from sam.files import download as download_module
from sam.files.download import DownloadError, download

CONTENT = bytes(range(256)) * 1000
HALF = len(CONTENT) // 2
OFFICIAL = OfficialCheckpoint("weights.pth", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), "")


@dataclass
class Mirror:
    """A web server of one file, and how well it behaves."""

    content: bytes = CONTENT
    status: int = 200
    continues: bool = True  # understands Range
    announces: bool = True  # says how much comes
    cut_after: int | None = None  # bytes, then it hangs up
    ranges: list[str] = field(default_factory=list)  # that it was asked for
    url: str = ""

    def answer(self, handler):
        self.ranges.append(handler.headers["Range"])
        start = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if self.status != 200:
            return handler.send_error(self.status)
        if handler.path != "/files/weights.pth":
            return handler.send_error(404)
        start = start if self.continues else 0
        body = self.content[start:]
        handler.send_response(206 if self.continues else 200)
        if self.announces:
            handler.send_header("Content-Length", str(len(body)))
        if self.continues and self.announces:
            size = len(self.content)
            handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        handler.end_headers()
        with contextlib.suppress(ConnectionError):  # the client may have had enough
            handler.wfile.write(body[: self.cut_after])
        return None


@pytest.fixture
def mirror(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    mirror = Mirror()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            mirror.answer(self)

        def log_message(self, *args):
            """Nothing to standard error."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    mirror.url = f"http://127.0.0.1:{server.server_port}/files/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield mirror
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / OFFICIAL.filename


@pytest.fixture
def part(tmp_path):
    return tmp_path / f"{OFFICIAL.filename}.part"


def failure_of(folder, mirror, official=OFFICIAL):
    with pytest.raises(DownloadError) as caught:
        download(official, folder, mirror.url)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("announces", [True, False])
@pytest.mark.parametrize("continues", [True, False])
def test_a_download_ends_with_the_file_under_its_name(continues, announces, mirror, target, part):
    mirror.continues, mirror.announces = continues, announces

    assert download(OFFICIAL, target.parent, mirror.url) == target
    assert target.read_bytes() == CONTENT
    assert not part.exists()


def test_the_folder_is_made(mirror, tmp_path):
    assert download(OFFICIAL, tmp_path / "new" / "folder", mirror.url).read_bytes() == CONTENT


def test_an_address_needs_no_slash_at_its_end(mirror, tmp_path):
    assert download(OFFICIAL, tmp_path, mirror.url.rstrip("/")).read_bytes() == CONTENT


def test_a_cut_connection_keeps_what_came(mirror, target, part):
    mirror.cut_after = HALF

    message = failure_of(target.parent, mirror)

    assert f"ended after {HALF} of {len(CONTENT)} bytes, which are kept: type the same" in message
    assert part.read_bytes() == CONTENT[:HALF]
    assert not target.exists()


def test_a_second_call_asks_for_the_rest_only(mirror, target, part):
    part.write_bytes(CONTENT[:HALF])

    download(OFFICIAL, target.parent, mirror.url)

    assert mirror.ranges == [f"bytes={HALF}-"]
    assert target.read_bytes() == CONTENT


def test_a_server_that_can_not_continue_starts_over(mirror, target, part):
    mirror.continues = False
    part.write_bytes(CONTENT[:HALF])

    download(OFFICIAL, target.parent, mirror.url)

    assert target.read_bytes() == CONTENT


def test_many_cuts_end_with_the_file_all_the_same(mirror, target):
    mirror.cut_after = len(CONTENT) // 3 + 1
    for _ in range(2):
        failure_of(target.parent, mirror)

    download(OFFICIAL, target.parent, mirror.url)

    assert target.read_bytes() == CONTENT


def test_all_bytes_that_came_before_are_verified_without_a_request(mirror, target, part):
    part.write_bytes(CONTENT)

    download(OFFICIAL, target.parent, mirror.url)

    assert mirror.ranges == []
    assert target.read_bytes() == CONTENT


def test_more_bytes_than_the_file_has_start_over(mirror, target, part):
    part.write_bytes(CONTENT + b"!")

    download(OFFICIAL, target.parent, mirror.url)

    assert mirror.ranges == ["bytes=0-"]
    assert target.read_bytes() == CONTENT


def test_a_file_gets_its_name_only_once_it_is_verified(mirror, target, monkeypatch):
    seen = []
    verify = download_module.verify
    monkeypatch.setattr(
        download_module, "verify", lambda *args: (seen.append(target.exists()), verify(*args))
    )

    download(OFFICIAL, target.parent, mirror.url)

    assert seen == [False]


@pytest.mark.parametrize("kept", [0, HALF])
def test_content_with_a_wrong_hash_is_removed(kept, mirror, target, part):
    mirror.content = CONTENT[::-1]
    part.write_bytes(CONTENT[:kept])

    message = failure_of(target.parent, mirror)

    assert "is not weights.pth" in message
    assert f"instead of {len(CONTENT)} bytes with {OFFICIAL.sha256[:16]}" in message
    assert not target.exists()
    assert not part.exists()


@pytest.mark.parametrize("continues", [True, False])
@pytest.mark.parametrize("content", [b"<html>please log in</html>", CONTENT + b"!"])
def test_a_file_of_another_size_is_refused_at_once(content, continues, mirror, target, part):
    mirror.content, mirror.continues = content, continues
    part.write_bytes(CONTENT[:10])

    message = failure_of(target.parent, mirror)

    assert f"has {len(content)} bytes instead of {len(CONTENT)}" in message
    assert "Check the address" in message
    assert part.read_bytes() == CONTENT[:10]


def test_an_endless_file_is_not_read_to_its_end(mirror, target, part):
    mirror.content, mirror.announces = CONTENT + bytes(64 << 20), False
    sizes = []

    with pytest.raises(DownloadError, match=r"is not weights\.pth: \d+ bytes") as caught:
        download(OFFICIAL, target.parent, mirror.url, lambda done, total: sizes.append(done))

    received = int(str(caught.value).split(": ")[1].split()[0])
    assert received <= len(CONTENT) + download_module.CHUNK_BYTES
    assert max(sizes) == len(CONTENT)
    assert not part.exists()


@pytest.mark.parametrize("status", [403, 404, 416, 503])
def test_an_error_of_the_server_is_told_with_its_number(status, mirror, target):
    mirror.status = status

    message = failure_of(target.parent, mirror)

    assert f"{mirror.url}weights.pth can't be fetched: the server answered {status} (" in message
    assert "Check the address, or try again later" in message


def test_a_server_that_is_not_there_is_told(mirror, target):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        mirror.url = f"http://127.0.0.1:{unused.getsockname()[1]}/"

        message = failure_of(target.parent, mirror)

    assert "can't be fetched" in message
    assert "type the same command to continue" in message


@pytest.mark.parametrize("url", ["", "not an address", "gopher://127.0.0.1/", "http://[::1"])
def test_what_is_no_address_is_told(url, mirror, target):
    mirror.url = url

    assert "can't be fetched" in failure_of(target.parent, mirror)


def test_a_file_that_is_there_is_kept_without_a_request(mirror, target):
    target.write_bytes(CONTENT)

    assert download(OFFICIAL, target.parent, mirror.url) == target
    assert mirror.ranges == []


def test_another_file_of_that_name_is_not_overwritten(mirror, target):
    target.write_bytes(b"my own weights")

    message = failure_of(target.parent, mirror)

    assert f"'{target}' exists but is not the official file" in message
    assert "move it away first" in message
    assert target.read_bytes() == b"my own weights"


@pytest.mark.parametrize("below", ["", "below"])
def test_a_folder_that_is_a_file_is_refused(below, mirror, tmp_path):
    (tmp_path / "file").write_bytes(b"precious")

    message = failure_of(tmp_path / "file" / below, mirror)

    assert "can't take the file" in message
    assert "--output" in message
    assert (tmp_path / "file").read_bytes() == b"precious"


def test_a_disk_too_small_is_told_before_the_first_byte(mirror, tmp_path):
    huge = OfficialCheckpoint("huge.pth", 2**60, "0" * 64, "")

    message = failure_of(tmp_path, mirror, huge)

    assert "needs 1099511627776 MiB more" in message
    assert mirror.ranges == []


def test_two_downloads_of_one_file_do_not_mix(mirror, target, part):
    with part.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        message = failure_of(target.parent, mirror)

    assert f"Another process is downloading '{target}': wait for it" in message
    assert mirror.ranges == []


@pytest.mark.parametrize("kept", [0, HALF])
def test_progress_grows_from_what_is_kept_to_the_total(kept, mirror, target, part, monkeypatch):
    monkeypatch.setattr(download_module, "CHUNK_BYTES", 10_000)
    part.write_bytes(CONTENT[:kept])
    calls = []

    download(OFFICIAL, target.parent, mirror.url, lambda *progress: calls.append(progress))

    done = [done_bytes for done_bytes, _ in calls]
    assert done == sorted(done)
    assert done[0] == kept + 10_000
    assert done[-1] == len(CONTENT)
    assert {total_bytes for _, total_bytes in calls} == {len(CONTENT)}
