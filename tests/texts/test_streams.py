"""streams.py: the same lines from every compression, bounded lines, damage named."""

import gzip
import http.server
import lzma
import threading
from pathlib import Path

import pytest
import zstandard

from mcontriever.errors import DataError
from mcontriever.texts.streams import read_lines

LINES = [b"first", "second \u0623\u0647\u0644\u0627".encode(), b"", b"no newline at the end"]


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_every_compression_gives_the_same_numbered_lines(tmp_path: Path, suffix: str) -> None:
    pack = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.compress}[suffix]
    path = tmp_path / f"text.jsonl{suffix}"
    path.write_bytes(pack(b"\n".join(LINES)))
    assert list(read_lines(str(path))) == list(enumerate(LINES, start=1))


def test_members_one_after_the_other_are_all_read(tmp_path: Path) -> None:
    for suffix, pack in ((".gz", gzip.compress), (".xz", lzma.compress), (".zst", zstandard.compress)):
        path = tmp_path / f"parts{suffix}"
        path.write_bytes(pack(b"a\nb\n") + pack(b"c\n"))
        assert [line for _, line in read_lines(str(path))] == [b"a", b"b", b"c"], suffix


def test_lines_longer_than_a_block_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_bytes(b"x" * 5_000_000 + b"\nshort\n")
    assert [(number, len(line)) for number, line in read_lines(str(path))] == [(1, 5_000_000), (2, 5)]


def test_an_endless_line_stops_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "endless.txt"
    path.write_bytes(b"fine\n" + b"x" * 3_000_000)
    with pytest.raises(DataError, match=r"more than 1,000 bytes\n  where: .*endless\.txt:2"):
        list(read_lines(str(path), max_line_bytes=1000))


def test_an_address_reads_as_a_file_does(tmp_path: Path) -> None:
    (tmp_path / "data.txt.gz").write_bytes(gzip.compress(b"over\nthe wire\n"))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/data.txt.gz"
        assert [line for _, line in read_lines(address)] == [b"over", b"the wire"]
        server.shutdown()


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_cut_file_is_an_error_and_not_a_short_file(tmp_path: Path, suffix: str) -> None:
    zstd = zstandard.ZstdCompressor(write_checksum=True).compress
    pack = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstd}[suffix]
    path = tmp_path / f"cut{suffix}"
    packed = pack(b"".join(b"line %d\n" % number for number in range(50_000)))
    path.write_bytes(packed[:-100])
    with pytest.raises(DataError, match=r"ends before its end mark\n  where: .*cut\.\w+\n  fix: restore the file"):
        list(read_lines(str(path)))
    path.write_bytes(packed[:100] + b"\xff" * 100 + packed[200:])
    with pytest.raises(DataError, match="the content is damaged"):
        list(read_lines(str(path)))


def test_a_file_that_cannot_be_opened_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file\n  where: .*absent\.txt"):
        list(read_lines(str(tmp_path / "absent.txt")))
    with pytest.raises(DataError, match="a folder where a file is expected"):
        list(read_lines(str(tmp_path)))
