"""Downloading a file while somebody watches, who may stop it at any moment."""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from pathlib import Path

from napari_wsss.jobs import CancelToken, Job, Log, Progress

__all__ = ["download_job"]

#: Seconds without an answer after which a server is given up.
_TIMEOUT_S = 20
#: Seconds between two looks at how far it is, and at whether it was cancelled.
_POLL_S = 0.1


def download_job(url: str, sha256: str, folder: Path, cancel: CancelToken) -> Job[str]:
    """Download a file once, check it, and return where it is.

    Parameters
    ----------
    url, sha256
        Where it is, and its checksum.
    folder
        Where it is kept, under the last part of the address; only the whole file with the right
        checksum ever gets that name.
    cancel
        Stops the download, also while the server does not answer.

    Raises
    ------
    requests.RequestException
        Without a connection.
    ValueError
        If it has another checksum.
    OSError
        If it cannot be saved.
    CancelledError
        If it was cancelled.
    """
    name = url.rpartition("/")[2]
    yield Log(f"Downloading {name}")
    meter, end = _Meter(cancel), Future[str]()
    # A thread of its own: one that waits for a server cannot be told to stop. When it is left, it
    # ends with the next bytes or the next timeout, and takes what it has along.
    threading.Thread(
        target=_retrieve, args=(url, sha256, folder, meter, end), name="download", daemon=True
    ).start()
    while not wait([end], _POLL_S).done:
        cancel.raise_if_cancelled()
        if meter.total:
            yield Progress(name, min(meter.done, meter.total), meter.total)
    return end.result()


def _retrieve(url: str, sha256: str, folder: Path, meter: _Meter, end: Future[str]) -> None:
    import pooch

    try:
        end.set_result(
            pooch.retrieve(
                url,
                known_hash=f"sha256:{sha256}",
                fname=url.rpartition("/")[2],
                path=folder,
                downloader=pooch.HTTPDownloader(timeout=_TIMEOUT_S, progressbar=meter),
            )
        )
    except BaseException as error:  # raised where somebody waits for it
        end.set_exception(error)


class _Meter:
    """What pooch takes for a progress bar, and tells of every chunk: how far the download is.

    Pooch cannot be told to stop. What a progress bar raises does, and pooch then removes what
    it has of the file.
    """

    def __init__(self, cancel: CancelToken) -> None:
        self._cancel = cancel
        self.total = self.done = 0

    def update(self, size: int) -> None:
        """Count a chunk of `size` bytes."""
        self._cancel.raise_if_cancelled()
        self.done += size

    def reset(self) -> None:
        """Count anew."""
        self.done = 0

    def close(self) -> None:
        """Pooch asks for it at the end."""
