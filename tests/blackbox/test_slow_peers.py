"""Peers that are too slow are cut (T-45), at the API and at the edge; whoever is not notices nothing.
The limits are short here, so that each rule is seen at work in the real binary."""
import contextlib
import pathlib
import socket
import threading

import pytest

from edge import Edge
from preview_app import service
from sandboxd import SLOW, Daemon, Raw, Sandbox, until

pytestmark = pytest.mark.timeout(120)
BIG = 48 << 20 # far more than all the buffers between two programs of one machine


@pytest.fixture(scope="module")
def box():
    d = Daemon(SANDBOXD_PEER_HEADER=f"{SLOW:g}s", SANDBOXD_PEER_STALL=f"{2 * SLOW:g}s", SANDBOXD_PEER_IDLE=f"{5 * SLOW:g}s")
    try:
        d.start()
        b = Sandbox.create(d, ports=[3000], services=[service(3000)])
        b.exec(f"head -c {BIG} /dev/zero > ~/workspace/app/big.bin") # an upload of ours might be too slow
        until(lambda: Edge(b).get().status == 200, 60, "the app answers")
        yield b
    finally:
        d.close()


def at(box, where):
    """A bare connection, and the lines that a request to it begins with."""
    if where == "API":
        return Raw(box.daemon.port, 20), "Host: localhost\n"
    return Edge(box).raw(20), f"Host: {Edge(box).host}\n"


def answer(raw):
    """Status of what comes before the peer closes; 0: nothing."""
    reply = raw.reply()
    assert raw.closed()
    return reply.status if reply else 0


@pytest.mark.concurrent
@pytest.mark.parametrize("where", ["API", "edge"])
@pytest.mark.parametrize("sent, statuses", [
    ("", (0, 408)),
    ("GE", (0, 408)),
    ("GET / HTTP/1.1\n{host}X-A:", (0, 408)),
    ("POST /v1/sandboxes HTTP/1.1\n{host}Content-Length: 9\n\n{{", (408,)),
], ids=["silence", "half a request line", "half a head", "half a body"])
def test_who_sends_too_slowly(box, where, sent, statuses):
    raw, host = at(box, where)
    with raw:
        raw.send(sent.format(host=host))
        assert answer(raw) in statuses
    assert box.daemon.get("/healthz").status == 200


@pytest.mark.parametrize("where", ["API", "edge"])
def test_a_trickle_is_no_progress(box, where):
    """A byte now and then keeps no connection open that its rule ends."""
    raw, host = at(box, where)
    stop = threading.Event()

    def trickle():
        while not stop.wait(0.1):
            try:
                raw.sock.sendall(b"X")
            except OSError:
                return

    with raw:
        raw.send(f"GET / HTTP/1.1\n{host}X-")
        feeder = threading.Thread(target=trickle)
        feeder.start()
        try:
            assert raw.closed()
        finally:
            stop.set()
            feeder.join()


@pytest.mark.parametrize("where", ["API", "edge"])
def test_a_kept_connection_without_a_request(box, where):
    raw, host = at(box, where)
    with raw:
        raw.send(f"GET /healthz HTTP/1.1\n{host}\n")
        assert raw.reply().status == 200
        assert raw.closed()


def held(raw):
    """Does the daemon still hold its end? What it closed lives on in the kernel, which has bytes to
    deliver, but belongs to nobody: inode 0."""
    ours, theirs = (f":{s[1]:04X}" for s in (raw.sock.getsockname(), raw.sock.getpeername()))
    for fields in connections():
        if fields[1].endswith(theirs) and fields[2].endswith(ours):
            return fields[9] != "0"
    return False


def connections():
    lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    return [line.split() for line in lines]


def unsent(port):
    """Bytes in the kernel for each peer of that server."""
    return [int(fields[4].split(":")[0], 16) for fields in connections()
                  if fields[1].endswith(f":{port:04X}") and fields[3] == "01"]


def taken(sock):
    """Bytes that come until the peer closes or resets."""
    n = 0
    try:
        while data := sock.recv(1 << 20):
            n += len(data)
    except ConnectionResetError:
        pass
    return n


@pytest.mark.parametrize("where, path", [
    ("API", "/v1/sandboxes/{id}/files/content?path=big.bin"),
    ("API", "/v1/sandboxes/{id}/files/export?path=.&format=tar"),
    ("edge", "/zeros"),
])
def test_who_takes_nothing_of_an_answer(box, where, path):
    raw, host = at(box, where)
    with raw:
        raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        raw.send(f"GET {path.format(id=box.id)} HTTP/1.1\n{host}\n")
        raw.sock.recv(1) # the answer has begun
        until(lambda: not held(raw), 20, "it is cut")
        assert taken(raw.sock) < BIG
    assert box.daemon.get("/healthz").status == 200


@pytest.mark.skipif(SLOW != 1, reason="sanitizers keep freed memory back")
@pytest.mark.parametrize("path", ["files/content?path=big.bin", "processes/{process}/output"])
def test_what_one_costs_who_takes_nothing(path):
    many, at_once, kib = 500, 384, 64 # L-7; one tenant's share of handlers
    d = Daemon()
    try:
        b = Sandbox.create(d.start())
        b.put_file("big.bin", bytes(BIG))
        p = d.post(f"{b.v1}/processes", json={"cmd": "cat app/big.bin"}, expect=201).json()
        until(lambda: d.get(f"{b.v1}/processes/{p['id']}").json()["status"] == "exited", 20, "its end")
        request = f"GET {b.v1}/{path.format(process=p['id'])} HTTP/1.1\nHost: localhost\n\n"
        with contextlib.ExitStack() as stack:
            before, seen = d.rss_kib(), []

            def full():
                seen.append(unsent(d.port))
                return len(seen) > 5 and seen[-1] == seen[-5] and sum(n > 0 for n in seen[-1]) >= at_once

            for _ in range(many):
                raw = stack.enter_context(Raw(d.port, 20))
                raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                raw.send(request)
            until(full, 20, "no more fits in between")
            assert d.rss_kib() - before <= kib * many, "T-45"
            assert max(seen[-1]) <= 2 * kib << 10, "nor is it in the kernel"
    finally:
        d.close()


def test_who_sends_nothing_more_of_an_upload(box):
    raw, host = at(box, "API")
    with raw:
        raw.send(f"PUT {box.v1}/files?path=half.bin HTTP/1.1\n{host}Content-Length: {BIG}\n\n")
        raw.sock.sendall(bytes(1 << 20))
        assert answer(raw) in (0, 408)
    assert box.get_file("half.bin", expect=404)
