"""Downloads that are watched, and stopped."""

from __future__ import annotations

import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from napari_wsss.errors import CancelledError
from napari_wsss.jobs import CancelToken, Progress, run_job
from napari_wsss.panels.support.downloading import download_job

CHUNK, CHUNKS = b"x" * 4096, 64
SHA256 = hashlib.sha256(CHUNK * CHUNKS).hexdigest()


@pytest.fixture
def server():
    """A server on this computer that takes its time for slow.svs, and says nothing of mute.svs."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if "mute" in self.path:
                over.wait(30)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(CHUNK) * CHUNKS))
            self.end_headers()
            for _ in range(CHUNKS):
                try:
                    self.wfile.write(CHUNK)
                except OSError:  # nobody listens any more
                    return
                over.wait(0.2 if "slow" in self.path else 0)

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    over.set()
    running.shutdown()
    thread.join()
    running.server_close()


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def wait_for_downloads():
    for thread in threading.enumerate():
        if thread.name == "download":
            thread.join(10)


def test_a_file_is_downloaded_once(server, tmp_path):
    seen = []
    path = run_job(download_job(f"{server}/a.svs", SHA256, tmp_path, CancelToken()), seen.append)
    assert files(tmp_path) == ["a.svs"]
    assert hashlib.sha256((tmp_path / "a.svs").read_bytes()).hexdigest() == SHA256
    assert (
        run_job(download_job("http://127.0.0.1:9/a.svs", SHA256, tmp_path, CancelToken())) == path
    )


@pytest.mark.parametrize("name", ["slow.svs", "mute.svs"])
def test_it_stops_at_once_and_leaves_nothing(server, tmp_path, name):
    cancel = CancelToken()
    job = download_job(f"{server}/{name}", SHA256, tmp_path, cancel)
    next(job)
    timer = threading.Timer(0.6, cancel.cancel)
    timer.start()
    seen = []
    began = time.monotonic()
    with pytest.raises(CancelledError):
        run_job(job, seen.append)
    assert time.monotonic() - began < 1.6
    if name == "slow.svs":
        assert max(event.done for event in seen if isinstance(event, Progress)) > 0
        wait_for_downloads()
        assert files(tmp_path) == []
    assert name not in files(tmp_path)


def test_errors_come_back(server, tmp_path):
    with pytest.raises(ValueError, match="hash"):
        run_job(download_job(f"{server}/a.svs", "0" * 64, tmp_path, CancelToken()))
    with pytest.raises(requests.ConnectionError):
        run_job(download_job("http://127.0.0.1:9/b.svs", SHA256, tmp_path, CancelToken()))
    assert files(tmp_path) == []
