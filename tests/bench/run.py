#!/usr/bin/env python3
"""The project's benchmark: what the Engine itself needs and what sandboxd needs, in one run.

    tests/bench/run.py                 the release build, prints a table
    tests/bench/run.py --write         also puts it into docs/performance.md
    tests/bench/run.py --only exec,get some sections: agent exec create get file
                                      process terminal files idle edge wake scale

Floor and server are measured alternately on the same images, network and limits, so a slow machine
slows both; judge by the ratio. Load comes from load.c, which is built here, for a Python client
would be the bottleneck."""
import argparse
import datetime
import json
import os
import pathlib
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import disk  # noqa: E402
import idle  # noqa: E402
import inside  # noqa: E402
import previews  # noqa: E402
from sandboxd import ROOT, Client, Daemon, Engine, new_id  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
KNOWN = 1000 # sandboxes of the scale section
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"

rows = []


def row(what, measured, goal=None, met=None, floor=""):
    """One line of the table; met: whether the goal was reached (None: there is none)."""
    verdict = "" if met is None else "yes" if met else "**no**"
    rows.append((what, measured, floor, goal or "", verdict))
    print(f"  {what:48s} {measured:>26s}  {floor:>22s}  {goal or '':>22s}  {verdict.strip('*')}",
          flush=True)


def timed(call):
    began = time.perf_counter()
    result = call()
    return (time.perf_counter() - began) * 1000, result


class Bench:
    def __init__(self, binary, quick):
        self.work = tempfile.TemporaryDirectory(prefix="sandboxed-bench-")
        self.quick = quick
        self.load_binary = self.work.name + "/load"
        subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-o", self.load_binary, HERE / "load.c"],
                       check=True)
        self.daemon = Daemon(binary=binary)
        self.engine = Engine()
        self.client = self.daemon.client()
        self.box = None

    def close(self):
        self.daemon.close()
        self.work.cleanup()

    # tools

    def n(self, count):
        return max(3, count // 4) if self.quick else count

    def load(self, connections, method, path, body=None, content_type="application/json",
             seconds=None, port=None):
        seconds = seconds or (1 if self.quick else 4)
        args = [self.load_binary, str(port or self.daemon.port), str(connections), str(seconds), method,
                path]
        if body is not None:
            file = self.work.name + "/body"
            pathlib.Path(file).write_bytes(body)
            args += [file, content_type]
        out = json.loads(subprocess.run(args, check=True, stdout=subprocess.PIPE).stdout)
        if out["bad"]:
            raise SystemExit(f"{method} {path}: {out['bad']} replies were not 2xx")
        out["rate"] = out["requests"] / out["seconds"]
        return out

    def create(self):
        return self.client.post("/sandbox", {"ports": []}, expect=201).json()["id"]

    def purge(self, sandbox):
        self.client.post(f"/sandbox/{sandbox}/purge", expect=200)

    def floor_spec(self):
        """The create spec of our own container, with a program of the image in the agent's place."""
        seen = self.engine.inspect(self.daemon.container(self.box))
        config, host = seen["Config"], seen["HostConfig"]
        return {"Image": config["Image"], "User": config["User"], "Labels": {"sandboxed.floor": "1"},
                "Entrypoint": ["sleep"], "Cmd": ["infinity"], "Healthcheck": {"Test": ["NONE"]},
                "HostConfig": host}

    def memory(self, field, pid=None, file="status"):
        text = pathlib.Path(f"/proc/{pid or self.daemon.process.pid}/{file}").read_text()
        return int(re.search(rf"^{field}:\s+(\d+)", text, re.M).group(1)) # KiB

    # sections

    def exec(self):
        path, body = f"/sandbox/{self.box}/exec", b'{"cmd":["true"]}'
        container = self.daemon.container(self.box)
        floor = []
        for _ in range(self.n(20)):
            took, (code, _) = timed(lambda: self.engine.exec(container, ["true"]))
            assert code == 0
            floor.append(took)
        floor = statistics.median(floor)
        one = self.load(1, "POST", path, body)
        p50 = one["p50_us"] / 1000
        row("exec of `true`, one after the other, p50", f"{p50:.2f} ms", "≤ 3 ms, ≤ 1/20 of floor",
            p50 <= 3 and p50 * 20 <= floor, f"{floor:.1f} ms (1/{floor / p50:.0f})")
        eight = self.load(8, "POST", path, body)
        row("exec of `true`, 8 at once", f"{eight['rate']:,.0f} /s", "≥ 1,000 /s",
            eight["rate"] >= 1000)

    def cold_create(self):
        spec = self.floor_spec()
        floor, ours = [], []
        for _ in range(self.n(16)):
            name = "sandboxed-floor-" + new_id().lower()
            took, cid = timed(lambda: self.floor_up(name, spec))
            floor.append(took)
            self.engine.remove(cid)
            took, sandbox = timed(self.create)
            ours.append(took)
            self.purge(sandbox)
        floor, ours = statistics.median(floor), statistics.median(ours)
        row("create until 201 and agent ready, median", f"{ours:.0f} ms", "≤ 1.15 × floor",
            ours <= 1.15 * floor, f"{floor:.0f} ms (× {ours / floor:.2f})")

    def floor_up(self, name, spec):
        cid = self.engine.create(name, spec)
        self.engine.start(cid)
        return cid

    def get(self):
        r = self.load(32, "GET", f"/v1/sandboxes/{self.box}")
        row("GET one sandbox, 32 connections", f"{r['rate']:,.0f} /s", "≥ 20,000 /s",
            r["rate"] >= 20000)

    def file(self):
        path = f"/v1/sandboxes/{self.box}/files"
        data = os.urandom(1024)
        w = self.load(1, "PUT", path + "?path=bench.bin", data, "application/octet-stream")
        row("write a file of 1 KiB, durable, p50", f"{w['p50_us'] / 1000:.2f} ms", "≤ 3 ms",
            w["p50_us"] <= 3000)
        r = self.load(1, "GET", path + "/content?path=bench.bin")
        row("read it, p50", f"{r['p50_us'] / 1000:.2f} ms", "≤ 0.5 ms", r["p50_us"] <= 500)

    def peak_growth(self, call):
        """Runs call; returns (seconds, growth of the daemon's peak RSS over its RSS before, MiB)."""
        pid = self.daemon.process.pid
        pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5") # VmHWM begins anew
        before = self.memory("VmRSS")
        took, _ = timed(call)
        return took / 1000, (self.memory("VmHWM") - before) / 1024

    def agent(self):
        pid = self.engine.inspect(self.daemon.container(self.box))["State"]["Pid"]
        rss = self.memory("Rss", pid, "smaps_rollup") / 1024
        row("agent, resident per sandbox", f"{rss:.2f} MiB", "≤ 1 MiB", rss <= 1)

    def scale(self):
        """A thousand sandboxes known: rows are put into the database while the daemon is down."""
        self.client.post(f"/v1/sandboxes/{self.box}/stop", expect=200)
        self.daemon.stop()
        self.multiply()
        seconds = []
        for _ in range(self.n(8)):
            began = time.perf_counter()
            self.daemon.spawn()
            self.first_ready()
            seconds.append((time.perf_counter() - began) * 1000)
            rss = self.memory("VmRSS") / 1024
            self.daemon.stop()
        took = statistics.median(seconds)
        row(f"start to ready, {KNOWN:,} sandboxes known, median", f"{took:.0f} ms", "≤ 300 ms",
            took <= 300)
        row("daemon, resident with them, just ready", f"{rss:.1f} MiB", "≤ 20 MiB", rss <= 20)
        self.daemon.start()
        for path in ("/v1/sandboxes?limit=1000", "/sandboxes"):
            r = self.load(1, "GET", path)
            row(f"GET {path}, p50", f"{r['p50_us'] / 1000:.2f} ms", "≤ 5 ms", r["p50_us"] <= 5000)
        r = self.load(32, "GET", f"/v1/sandboxes/{self.box}")
        row("GET one of them, 32 connections", f"{r['rate']:,.0f} /s", "≥ 20,000 /s",
            r["rate"] >= 20000)
        rss = self.memory("VmRSS") / 1024
        row("daemon, resident after that load", f"{rss:.1f} MiB", "≤ 20 MiB", rss <= 20)
        self.daemon.stop()
        self.forget()
        self.daemon.start()

    def first_ready(self):
        c = Client(self.daemon.port, timeout=5)
        while True:
            try:
                if c.get("/readyz").status == 200:
                    return
            except OSError:
                pass
            if self.daemon.process.poll() is not None:
                raise SystemExit("the daemon ended:\n" + self.daemon.log_tail())
            time.sleep(0.001)

    def database(self):
        return sqlite3.connect(self.daemon.data_dir + "/state/sandboxd.db")

    def multiply(self):
        con = self.database()
        with con:
            for table in ("workspace", "sandbox"):
                cur = con.execute(f"SELECT * FROM {table} WHERE id = ?", (self.box,))
                names = [d[0] for d in cur.description]
                kept = cur.fetchone()
                self.ids = [new_id() for _ in range(KNOWN - 1)] if table == "workspace" else self.ids
                for i in self.ids:
                    values = dict(zip(names, kept), id=i)
                    if table == "sandbox":
                        values |= {"container_id": None, "state": "STOPPED"}
                    con.execute(f"INSERT INTO {table} ({','.join(names)}) "
                                f"VALUES ({','.join('?' * len(names))})",
                                [values[n] for n in names])
        con.close()

    def forget(self):
        con = self.database()
        with con:
            for table in ("sandbox", "workspace"):
                con.execute(f"DELETE FROM {table} WHERE id <> ?", (self.box,))
        con.close()


SECTIONS = [("agent", Bench.agent), ("exec", Bench.exec), ("create", Bench.cold_create),
            ("get", Bench.get), ("file", Bench.file),
            ("process", lambda b: inside.process(b, row)),
            ("terminal", lambda b: inside.terminal(b, row)),
            ("files", lambda b: disk.files(b, row)), ("idle", lambda b: idle.idle(b, row)),
            ("edge", lambda b: previews.edge(b, row)), ("wake", lambda b: previews.wake(b, row)),
            ("scale", Bench.scale)]


def machine(bench):
    cpu = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    mem = int(re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text()).group(1))
    engine = bench.engine.call("GET", "/version", expect=200).json()["Version"]
    fs = subprocess.run(["stat", "-f", "-c", "%T", bench.daemon.dir], stdout=subprocess.PIPE,
                        text=True, check=True).stdout.strip()
    return (f"{os.cpu_count()} cores ({cpu.group(1).strip() if cpu else 'unknown'}), "
            f"{mem / (1 << 20):.0f} GiB, Linux {os.uname().release}, Docker Engine {engine}, "
            f"data on {fs}")


def markdown(where, version, load):
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    lines = [f"{today}, {version}: {where}; load average before: {load:.1f}.", "",
             "| what | sandboxd | the Engine's own (ratio) | goal | met |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join((w, m, f, g, v)) + " |" for w, m, f, g, v in rows]
    return "\n".join(lines)


def write(block):
    path = ROOT / "docs/performance.md"
    text = path.read_text() if path.exists() else f"# Performance\n\n{BEGIN}\n{END}\n"
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    path.write_text(f"{head}{BEGIN}\n{block}\n{END}{tail}")


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--binary", help="default: $SANDBOXD_BIN or build/release/sandboxd")
    p.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    p.add_argument("--quick", action="store_true", help="a quarter of the rounds")
    p.add_argument("--only", default="", help="sections, comma separated")
    a = p.parse_args()
    only = [s for s in a.only.split(",") if s]
    if unknown := set(only) - {name for name, _ in SECTIONS}:
        p.error(f"no such section: {', '.join(unknown)}")
    load = os.getloadavg()[0]
    bench = Bench(a.binary, a.quick)
    try:
        where = machine(bench)
        version = subprocess.run([bench.daemon.binary, "--version"], stdout=subprocess.PIPE,
                                 text=True, check=True).stdout.strip()
        print(f"{version}; {where}; load average {load:.1f}")
        bench.daemon.start()
        bench.purge(bench.create()) # the golden copy and the network are made once
        bench.box = bench.create()
        for name, section in SECTIONS:
            if not only or name in only:
                section(bench)
    finally:
        bench.close()
    block = markdown(where, version, load)
    if a.write:
        write(block)
    print("\n" + block)


if __name__ == "__main__":
    main()
