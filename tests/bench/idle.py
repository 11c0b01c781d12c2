"""Section of run.py about connections that do nothing: what each costs, and what those who work
notice of them."""
import pathlib
import resource
import socket
import time

from edge import edge_port
from sandboxd import Daemon, Sandbox, until

COUNT = 10000
SLOW = 2000 # who never finish their heads
DEAF = 500  # who take nothing of a large answer


def raise_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connect(port, head, count):
    """Connections that had one request answered and ask nothing more."""
    out = []
    for _ in range(count):
        s = socket.create_connection(("127.0.0.1", port), timeout=10)
        s.sendall(head)
        out.append(s)
        if len(out) % 100 == 0: # so many at a time, below the listener's backlog
            for t in out[-100:]:
                assert t.recv(65536).startswith(b"HTTP/1.1 ")
    return out


def alive(socks):
    """How many of them the peer has not closed."""
    n = 0
    for s in socks:
        s.setblocking(False)
        try:
            n += s.recv(1) != b""
        except BlockingIOError:
            n += 1
        except OSError:
            pass
    return n


def measure(bench, row, where, request):
    """request: from a daemon, its port and what to send there."""
    count = COUNT // 4 if bench.quick else COUNT
    d = Daemon(binary=bench.daemon.binary)
    try:
        port, head = request(d.start())
        before = d.rss_kib()
        socks = connect(port, head, count)
        kib = (d.rss_kib() - before) / count
        r = bench.load(8, "GET", "/healthz", port=d.port)
        there = alive(socks)
        for s in socks:
            s.close()
    finally:
        d.close()
    row(f"{count:,} idle connections at the {where}", f"{kib:.1f} KiB each, {there:,} alive",
        "≤ 24 KiB each", kib <= 24 and there == count)
    row("/healthz meanwhile, 8 connections, p99", f"{r['p99_us'] / 1000:.2f} ms", "≤ 50 ms",
        r["p99_us"] <= 50000, f"p50 {r['p50_us'] / 1000:.2f} ms")


def slow(bench, row):
    """Many who are slow, beside one who is not: those who never finish their heads, then those who
    take nothing of a large answer."""
    d = Daemon(binary=bench.daemon.binary)
    try:
        box = Sandbox.create(d.start())
        box.put_file("big.bin", bytes(64 << 20))
        host = f"Host: 127.0.0.1:{d.port}\r\n"
        alone = bench.load(1, "GET", "/healthz", port=d.port)["p99_us"]
        for what, count, head in (
                ("who never end their heads", SLOW, f"GET /healthz HTTP/1.1\r\n{host}X-A: b"),
                ("who take nothing of 64 MiB", DEAF,
                 f"GET {box.v1}/files/content?path=big.bin HTTP/1.1\r\n{host}\r\n")):
            before, socks = d.rss_kib(), []
            for _ in range(count):
                socks.append(socket.create_connection(("127.0.0.1", d.port), timeout=10))
                socks[-1].sendall(head.encode())
            until(lambda: is_calm(d), 60, "what they hold is held")
            kib = (d.rss_kib() - before) / count
            p99 = bench.load(1, "GET", "/healthz", port=d.port)["p99_us"]
            for s in socks:
                s.close()
            row(f"{count:,} peers {what}, each", f"{kib:.1f} KiB", "≤ 64 KiB", kib <= 64)
            row("/healthz meanwhile, one connection, p99", f"{p99 / 1000:.2f} ms",
                "≤ 2 × without them", p99 <= 2 * alone,
                f"{alone / 1000:.2f} ms (× {p99 / alone:.1f})")
    finally:
        d.close()


def is_calm(d):
    """Has it used next to no time of late?"""
    before = cpu(d)
    time.sleep(0.2)
    return cpu(d) - before <= 1


def cpu(d):
    fields = pathlib.Path(f"/proc/{d.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12]) # hundredths of a second


def idle(bench, row):
    raise_limit()
    slow(bench, row)
    measure(bench, row, "API", lambda d: (
        d.port, f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{d.port}\r\n\r\n".encode()))
    measure(bench, row, "edge", lambda d: (
        edge_port(d),
        b"GET / HTTP/1.1\r\nHost: s-01" + b"z" * 24 + b"-80.preview.localhost\r\n\r\n"))
