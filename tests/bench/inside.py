"""Sections of run.py about commands in a sandbox: kept processes, floods of output, terminals."""
import selectors
import socket
import statistics
import time

from websocket import BINARY, WebSocket

FLOOD = 100 << 20 # of each exec
CHUNK = 1 << 18
# Says what the clock is, which the sandbox shares with its host, whenever it is asked.
CLOCK = "import os,time\nwhile os.read(0, 1): os.write(1, b'%d\\n' % time.monotonic_ns())\n"


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def process(bench, row):
    path = f"/v1/sandboxes/{bench.box}/processes"
    r = bench.load(1, "POST", path, b'{"cmd":["true"]}')
    row("start of a kept process, warm, p50", f"{r['p50_us'] / 1000:.2f} ms", "≤ 2.5 ms",
        r["p50_us"] <= 2500)
    late = follow(bench, path, bench.n(1000))
    p99 = percentile(late, 0.99)
    row("a line of output until an SSE client has it, p99", f"{p99:.2f} ms", "≤ 10 ms", p99 <= 10,
        f"p50 {statistics.median(late):.2f} ms")
    flood(bench, row)


def follow(bench, path, rounds):
    """Ages in ms of lines that say when they were written, one asked for at a time."""
    made = bench.client.post(path, {"cmd": ["python3", "-c", CLOCK], "stdin": True},
                             expect=201).json()
    late = []
    with bench.daemon.client().stream("GET", f"{path}/{made['id']}/output?follow=true",
                                      headers={"Accept": "text/event-stream"}) as s:
        events = s.sse()
        for i in range(rounds + 20):
            bench.client.post(f"{path}/{made['id']}/stdin", raw=b"\n", expect=200)
            _, data = next(events)
            if i >= 20: # warm
                late.append((time.monotonic_ns() - int(data["data"])) / 1e6)
    bench.client.delete(f"{path}/{made['id']}", expect=204)
    return late


class Taker:
    """One client of a flood: reads as fast as it is served, keeps nothing."""

    def __init__(self, port, path, size):
        body = b'{"cmd":["head","-c","%d","/dev/zero"],"stream":true}' % size
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.sock.sendall(b"POST %s HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                          b"Content-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body))
        self.sock.setblocking(False)
        self.got, self.heard, self.gap = 0, time.monotonic(), 0.0


def flood(bench, row):
    """50 execs at once; one thread takes all, so that this client is one process more at most."""
    path = f"/v1/sandboxes/{bench.box}/exec"
    size = FLOOD // 4 if bench.quick else FLOOD

    def run():
        buffer, began = bytearray(CHUNK), time.monotonic()
        with selectors.DefaultSelector() as sel:
            takers = [Taker(bench.daemon.port, path, size) for _ in range(50)]
            for t in takers:
                sel.register(t.sock, selectors.EVENT_READ, t)
            while sel.get_map():
                for key, _ in sel.select(30):
                    t = key.data
                    n = t.sock.recv_into(buffer)
                    now = time.monotonic()
                    t.gap = max(t.gap, now - t.heard)
                    t.heard, t.got = now, t.got + n
                    if n == 0:
                        sel.unregister(t.sock)
                        t.sock.close()
                        t.took = now - began
        return takers

    takers = []
    seconds, growth = bench.peak_growth(lambda: takers.extend(run()))
    assert all(t.got >= size for t in takers), [t.got for t in takers]
    gap = max(t.gap for t in takers)
    rate = sum(t.got for t in takers) / seconds / (1 << 20)
    row(f"50 execs at once, {size >> 20} MiB each", f"{rate:,.0f} MiB/s, RSS +{growth:.1f} MiB",
        "RSS growth ≤ 64 MiB", growth <= 64)
    row("of them, the longest that one waited for a byte", f"{gap:.2f} s", "none starved: ≤ 5 s",
        gap <= 5, f"first ends at {min(t.took for t in takers):.1f} s, "
        f"last at {max(t.took for t in takers):.1f} s")


def terminal(bench, row):
    made = bench.client.post(f"/v1/sandboxes/{bench.box}/processes",
                             {"cmd": ["cat"], "pty": {"cols": 80, "rows": 24}}, expect=201).json()
    echo = []
    with WebSocket(bench.daemon.port,
                   f"/v1/sandboxes/{bench.box}/terminal?process={made['id']}") as ws:
        ws.recv() # the note
        for i in range(bench.n(1000) + 20):
            began = time.perf_counter()
            ws.type("x" if i % 60 else "\n")
            while ws.recv()[0] != BINARY:
                continue
            if i >= 20:
                echo.append((time.perf_counter() - began) * 1000)
    bench.client.delete(f"/v1/sandboxes/{bench.box}/processes/{made['id']}", expect=204)
    p50 = statistics.median(echo)
    row("a key until a terminal's echo, p50", f"{p50:.2f} ms", "≤ 3 ms", p50 <= 3,
        f"p99 {percentile(echo, 0.99):.2f} ms")
