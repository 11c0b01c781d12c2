"""Sections of run.py about previews: the edge's rate against Traefik's own, and waking."""
import contextlib
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import traefik
from edge import Edge, edge_port, host_of
from sandboxd import Client, Sandbox, free_port, together, until

HERE = pathlib.Path(__file__).resolve().parent
PORT = 3000
UNITS = {"us": 1, "ms": 1000, "s": 1e6}


def asleep(bench):
    """A stopped sandbox whose service is target.c; the program is built static, for any image."""
    program = bench.work.name + "/target"
    if not os.path.exists(program):
        subprocess.run(["musl-gcc", "-O2", "-static", "-D_GNU_SOURCE", "-o", program,
                        HERE / "target.c"], check=True)
    box = Sandbox.create(bench.daemon, ports=[PORT], services=[
        {"name": "target", "cmd": ["/home/sandbox/target", str(PORT)], "port": PORT}])
    shutil.copy(program, box.workspace / "target")
    box.stop()
    return box


def target(bench):
    box = asleep(bench)
    Edge(box).get().expect(200)
    return box


def address(box):
    networks = box.daemon.containers(box.id)[0]["NetworkSettings"]["Networks"]
    return next(iter(networks.values()))["IPAddress"]


def wrk(port, host, connections, seconds, address="127.0.0.1"):
    """(requests a second, p50 in us)"""
    out = subprocess.run(["wrk", f"-c{connections}", "-t1", f"-d{seconds}", "--latency", "-H",
                          f"Host: {host}", f"http://{address}:{port}/"],
                         check=True, stdout=subprocess.PIPE, text=True).stdout
    if bad := re.search(r"Non-2xx.*|Socket errors.*", out):
        raise SystemExit(f"wrk: {bad.group(0)}")
    p50, unit = re.search(r"^\s+50%\s+([\d.]+)(us|ms|s)", out, re.M).groups()
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)), float(p50) * UNITS[unit]


@contextlib.contextmanager
def plain_traefik(bench, backend):
    """Traefik straight before the target, without us; its port."""
    port, at = free_port(), pathlib.Path(bench.work.name)
    (at / "rules.yml").write_text(
        "http:\n  routers:\n    r: {rule: 'PathPrefix(`/`)', service: s, entryPoints: [web]}\n"
        f"  services:\n    s: {{loadBalancer: {{servers: [{{url: 'http://{backend}:{PORT}'}}]}}}}\n")
    (at / "traefik.yml").write_text(
        f"entryPoints: {{web: {{address: '127.0.0.1:{port}'}}}}\n"
        f"providers: {{file: {{filename: {at}/rules.yml}}}}\nlog: {{level: ERROR}}\n"
        "global: {checkNewVersion: false, sendAnonymousUsage: false}\n")
    process = subprocess.Popen([traefik.BINARY, f"--configFile={at}/traefik.yml"])
    try:
        def answers():
            try:
                return Client(port, timeout=5).get("/").status == 200
            except OSError:
                return False
        until(answers, 20, "Traefik answers")
        yield port
    finally:
        process.terminate()
        process.wait()


def edge(bench, row):
    box, seconds = target(bench), 1 if bench.quick else 4
    host, ours, its = host_of(box), edge_port(bench.daemon), address(box)
    best = {}
    with plain_traefik(bench, its) as theirs:
        for _ in range(3): # in turn; the best of each, for others share the cores
            for name, port, at in (("direct", PORT, its), ("edge", ours, "127.0.0.1"),
                                   ("traefik", theirs, "127.0.0.1")):
                best[name] = max(best.get(name, 0), wrk(port, host, 32, seconds, at)[0])
        alone = {name: min(wrk(port, host, 1, seconds, at)[1] for _ in range(3))
                 for name, port, at in (("direct", PORT, its), ("edge", ours, "127.0.0.1"))}
    box.purge()
    row("edge, awake, 32 connections", f"{best['edge']:,.0f} /s", "≥ Traefik's own",
        best["edge"] >= best["traefik"],
        f"Traefik {best['traefik']:,.0f} /s, direct {best['direct']:,.0f} /s")
    added = (alone["edge"] - alone["direct"]) / 1000
    row("edge, added to one request, p50", f"{added:.3f} ms", "≤ 0.2 ms", added <= 0.2)


def first_byte(box):
    began = time.perf_counter()
    Edge(box).get().expect(200)
    return (time.perf_counter() - began) * 1000


def milliseconds(call):
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def wake(bench, row):
    box, e = target(bench), bench.engine
    floor_id = bench.floor_up("sandboxed-floor-" + box.id.lower(), bench.floor_spec())
    floor, ours = [], []
    for _ in range(bench.n(20)):
        e.call("POST", f"/containers/{floor_id}/pause", expect=204)
        floor.append(milliseconds(
            lambda: e.call("POST", f"/containers/{floor_id}/unpause", expect=204)))
        box.client.post(box.v1 + "/pause", expect=200)
        ours.append(first_byte(box))
    floor, p50 = statistics.median(floor), statistics.median(ours)
    row("wake from paused to the first byte, p50", f"{p50:.1f} ms", "≤ 20 ms", p50 <= 20,
        f"{floor:.1f} ms (+ {p50 - floor:.1f})")

    floor, ours, rest = [], [], []
    for _ in range(bench.n(12)):
        e.stop(floor_id)
        floor.append(milliseconds(lambda: e.start(floor_id)))
        box.stop()
        ours.append(first_byte(box))
        last = box.client.get(box.v1 + "/why", expect=200).json()["last_start"]
        rest.append(ours[-1] - last["engine_ms"])
    e.remove(floor_id)
    floor, ours = statistics.median(floor), statistics.median(ours)
    row("wake from stopped to the first byte, median", f"{ours:.0f} ms",
        "≤ 1.15 × Engine's start", ours <= 1.15 * floor, f"{floor:.0f} ms (× {ours / floor:.2f})")
    share = statistics.median(rest)
    row("of which neither Engine nor its container", f"{share:.1f} ms", "≤ 15 ms", share <= 15)

    before = bench.daemon.log().count('"sandbox.started"')
    box.stop()
    replies = together(*[Edge(box).get] * (50 if bench.quick else 500))
    starts = bench.daemon.log().count('"sandbox.started"') - before
    served = sum(r.status == 200 for r in replies)
    row(f"{len(replies)} clients at one that sleeps", f"{served} served, {starts} start",
        "all, 1 start", served == len(replies) and starts == 1)
    box.purge()
    many(bench, row)


def many(bench, row):
    """So many woken at once, and as many containers that the Engine itself starts at once."""
    count, e = 10 if bench.quick else 50, bench.engine
    spec = bench.floor_spec()
    floors = [e.create(f"sandboxed-floor-{bench.box.lower()}-{n}", spec) for n in range(count)]
    floor = milliseconds(lambda: together(*[lambda f=f: e.start(f) for f in floors])) / 1000
    for f in floors:
        e.remove(f)
    with ThreadPoolExecutor(4) as pool:
        boxes = list(pool.map(lambda _: asleep(bench), range(count)))
    began = time.perf_counter()

    def ask(box):
        reply = Edge(box).get()
        return time.perf_counter() - began, reply

    done = together(*[lambda b=b: ask(b) for b in boxes])
    up = [t for t, r in done if r.status == 200]
    honest = [r for _, r in done if r.status == 503 and r.headers["Retry-After"]]
    last = max(up, default=0)
    row(f"{count} woken at once", f"{len(up)} up in {last:.1f} s, {len(honest)} × 503",
        "all ≤ 30 s, or 503", 0 < last <= 30 and len(up) + len(honest) == count,
        f"{floor:.1f} s (× {last / floor:.2f})")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda b: b.purge(), boxes))
