"""HEAD on whatever is streamed: the headers, not a byte more, and the connection tells where it stands."""
import socket

import pytest

from sandboxd import PATIENCE, until


@pytest.fixture(scope="module")
def box(_shared):
    from sandboxd import Sandbox
    box = Sandbox.create(_shared, services=[{"name": "web", "cmd": "while :; do echo hello; sleep 0.1; done"}])
    app = box.workspace / "workspace/app"
    for n in range(1500): # lists of more than is told in one piece
        (app / f"file-{n:05d}-{'x' * 60}").write_text("findme\n")
    (app / "big").write_bytes(b"a" * 3000000)
    yield box
    box.purge()


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream", "application/x-ndjson"])
def test_no_stray_bytes(daemon, box, accept):
    start = lambda cmd: box.client.post(box.v1 + "/processes", {"cmd": cmd}, expect=201).json()["id"]  # noqa: E731
    ended, runs = start("yes | head -c 500000"), start("sleep 1000")
    until(lambda: box.client.get(f"{box.v1}/processes/{ended}").json()["status"] == "exited", 10, "exited")
    for path in ("files", "files?limit=1000", "files/search?q=findme&limit=10000", "files/search?name=*", "files/content?path=big",
                 "files/export", "files/export?format=tar", "export", f"processes/{ended}/output",
                 f"processes/{runs}/output?follow=true", "services/web/logs", "services/web/logs?follow=true", "files/watch",
                 "files/watch?recursive=false"):
        with socket.create_connection(daemon.address, timeout=10 * PATIENCE) as s:
            s.sendall(f"HEAD {box.v1}/{path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n"
                      "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            got = b""
            while piece := s.recv(65536):
                got += piece
        head, _, rest = got.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), (path, head)
        headers = head.lower()
        assert b"transfer-encoding" not in headers, path
        if b"connection: close" in headers: # of a length that nobody knows
            assert rest == b"" and b"content-length" not in headers, (path, got)
        else:
            assert rest.startswith(b"HTTP/1.1 200") and rest.endswith(b"ok\n"), (path, rest[:80])
            assert b"content-length: 3000000" in headers or b"content-length: 0" not in headers, path
    box.client.delete(f"{box.v1}/processes/{runs}", expect=204)
