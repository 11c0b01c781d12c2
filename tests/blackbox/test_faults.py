"""Every seam of the daemon (FAULT() in src/), played: killed there, refused there, held up there.

Whatever was answered before stays true afterwards; nothing stays in between; nothing is left over.
A new seam joins by existing. Needs a binary with seams compiled in (the presets asan and fault)."""
import http.client
import io
import pathlib
import re
import tarfile

import pytest

import sandboxd
from sandboxd import IMAGE_MUSL, list_all, new_id, until

SOURCES = pathlib.Path(sandboxd.ROOT, "src")
SEAMS = sorted(set(re.findall(r'FAULT\("([^"]+)"\)', "".join(
    f.read_text() for f in SOURCES.rglob("*.c") if f.parent.name != "base"))))

# Why a seam is not met by the scenario below.
NOT_MET = {
    "store.migrate.before": "only an older database is migrated (unit.store_fault)",
    "store.migrate.after": "as above",
    "store.commit.full": "plays a full disk, at commit only (unit.store_fault)",
}
# After a failed commit nothing is written any more until the daemon is started anew.
ENDS_WRITING = {"store.commit.before", "store.commit.full", "store.commit.after"}
# Passes besides the first, where another one is another moment.
PASSES = {
    "core.move.before": (2, 3, 4, 5, 6, 7, 8, 9),
    "core.move.after": (2, 3, 4, 5, 6, 7),
    "store.commit.before": (6, 12),
    "store.commit.after": (8, 16),
}


def has_seams():
    return b"core.move.before" in pathlib.Path(sandboxd.BINARY).read_bytes()


# Some minutes long: by hand, with SANDBOXD_BIN=build/asan/sandboxd or build/fault/sandboxd.
pytestmark = [pytest.mark.drill,
              pytest.mark.skipif(not has_seams(), reason="no seams in this binary")]

CASES = [f"{seam}={action}" for seam in SEAMS for action in ("kill", "error")]
CASES += [f"{seam}=kill:{n}" for seam, ns in PASSES.items() for n in ns]
# Held up where others come by in the meantime: the sweep, the supervisor, an agent's answer.
CASES += [f"{seam}=delay2500" for seam in ("core.move.before", "core.move.after",
                                           "core.process.recorded", "core.start.after")]


def tar(name, data):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        t.addfile(info, io.BytesIO(data))
    return out.getvalue()


class World:
    """What the daemon has said, and so has to be true."""

    def __init__(self, daemon):
        self.daemon, self.client = daemon, daemon.client(timeout=20)
        self.ids = [new_id(), new_id()]
        self.exists = {}    # id -> True, False; absent: not known
        self.files = {}     # (id, name) -> bytes
        self.processes = {} # id -> process ids
        self.services = {}  # id -> names
        self.gone = set()   # ids whose files are not there any more

    def ask(self, method, path, json=None, raw=None):
        """The status, or None: the daemon is gone, or broke the connection."""
        try:
            return self.client.request(method, path, json=json, raw=raw)
        except (OSError, http.client.HTTPException):
            return None

    def answers(self):
        """Comparing after the start is over, whether writing works or not."""
        r = self.ask("GET", "/readyz")
        return r is not None and "comparing" not in r.text

    def create(self, box, **fields):
        r = self.ask("POST", "/v1/sandboxes", {"id": box, "image": IMAGE_MUSL, **fields})
        self.exists.pop(box, None)
        if r and r.status == 201:
            self.exists[box] = True
            self.services[box] = {s["name"] for s in fields.get("services", [])}

    def put(self, box, name, data):
        self.files.pop((box, name), None)
        r = self.ask("PUT", f"/v1/sandboxes/{box}/files?path={name}", raw=data)
        if r and r.status in (200, 201):
            self.files[box, name] = data

    def exec(self, box, line, **fields):
        r = self.ask("POST", f"/v1/sandboxes/{box}/exec", {"cmd": line, **fields})
        return r.json() if r and r.status == 200 else None

    def act(self, box, what):
        return self.ask("POST", f"/v1/sandboxes/{box}/{what}")

    def remove(self, box, purge):
        self.exists.pop(box, None)
        known = {k: v for k, v in self.files.items() if k[0] == box}
        if purge:
            for k in known:
                self.files.pop(k)
        self.processes.pop(box, None)
        self.services.pop(box, None)
        r = self.ask("DELETE", f"/v1/sandboxes/{box}" if purge else f"/sandbox/{box}")
        if r and r.status == 204:
            self.exists[box] = False
            self.gone |= {box} if purge else set()

    def preview(self, box, port):
        host, edge = self.daemon.env["SANDBOXED_EDGE_BIND"].split(":")
        conn = http.client.HTTPConnection(host, int(edge), timeout=20)
        try:
            conn.request("GET", "/", headers={
                "Host": f"s-{box.lower()}-{port}.preview.localhost"})
            conn.getresponse().read()
        except (OSError, http.client.HTTPException):
            pass
        finally:
            conn.close()

    def run(self):
        a, b = self.ids
        self.create(a, ports=[8080], services=[
            {"name": "web", "cmd": "httpd -f -p 127.0.0.1:8080", "cwd": "/tmp", "port": 8080}])
        self.put(a, "kept", b"before\n")
        r = self.ask("POST", f"/v1/sandboxes/{a}/files/import?path=in", raw=tar("x", b"of a tar\n"))
        if r and r.status == 200:
            self.files[a, "in/x"] = b"of a tar\n"
        if self.exec(a, "echo by a command > /home/sandbox/said; sync"):
            self.files[a, "/home/sandbox/said"] = b"by a command\n"
        r = self.ask("POST", f"/v1/sandboxes/{a}/processes", {"cmd": ["true"]})
        if r and r.status == 201:
            self.processes.setdefault(a, []).append(r.json()["id"])
        if (r := self.exec(a, ["sleep", "1000"], service="sleeper")):
            self.services.setdefault(a, set()).add("sleeper")
        self.preview(a, 8080)
        self.act(a, "pause")
        self.act(a, "start")
        self.put(a, "kept", b"after\n")
        self.act(a, "stop")
        self.act(a, "start")
        self.create(b)
        self.put(b, "other", b"b\n")
        self.remove(b, purge=False)
        self.create(b)
        self.remove(b, purge=True)


UP, DOWN = ("running", "paused"), ("stopped", "error")


def boxes_of(daemon):
    """Its containers that are no seeds: of those the next daemon rids us."""
    return [c for c in daemon.containers() if "sandboxed.id" in c["Labels"]]


def settle(world):
    """No row stays in between, containers follow rows, what was acknowledged is there."""
    d, c = world.daemon, world.daemon.client()

    def wrong():
        rows = {s["id"]: s["status"] for s in list_all(c)}
        out = [f"{i}: {s}" for i, s in rows.items() if s not in UP and s not in DOWN]
        boxes = {}
        for box in boxes_of(d):
            boxes.setdefault(box["Labels"]["sandboxed.id"], []).append(box["State"])
        out += [f"orphan of {i}" for i in boxes if i not in rows]
        out += [f"containers of {i}: {s}" for i, s in boxes.items() if len(s) > 1]
        out += [f"{i}: {s}, container {boxes.get(i)}" for i, s in rows.items()
                if any(x in UP for x in boxes.get(i, [])) != (s in UP)
                or (s in UP and boxes[i] != [s])]
        out += [f"{i} exists: {e} was acknowledged" for i, e in world.exists.items()
                if (i in rows) != e]
        return out

    try:
        until(lambda: not wrong(), 10, "settled", every_s=0.05)
    except AssertionError as e:
        raise AssertionError(f"{e}: {wrong()}\n{d.log_tail(20)}") from None
    return {s["id"] for s in list_all(c)}


def check(world):
    d, c = world.daemon, world.daemon.client()
    alive = settle(world)
    for (box, name), data in world.files.items():
        if box in alive:
            got = c.get(f"/v1/sandboxes/{box}/files/content?path={name}", expect=200).body
            assert got == data, f"{name}: {got}"
    left = {p.name for p in pathlib.Path(d.data_dir, "workspaces").glob("*")}
    assert not left & world.gone, "a purge that was acknowledged"
    for box, ids in world.processes.items():
        listed = c.get(f"/v1/sandboxes/{box}/processes", expect=200).json()["processes"]
        assert set(ids) <= {p["id"] for p in listed}
    for box, names in world.services.items():
        if box in alive:
            listed = c.get(f"/v1/sandboxes/{box}/services", expect=200).json()["services"]
            assert names <= {s["name"] for s in listed}
    for box in alive: # of use, and whoever was at work is not there twice
        r = c.post(f"/v1/sandboxes/{box}/exec", {"cmd": "echo up"}, expect=200).json()
        assert r["stdout"] == "up\n"
        if "sleeper" in world.services.get(box, ()):
            def sleepers(box=box):
                r = c.post(f"/v1/sandboxes/{box}/exec", {"cmd": "ps -o args | grep -xc 'sleep 1000'"})
                return r.json()["stdout"].strip()
            until(lambda: sleepers() == "1", 10, "one sleeper")
    until(lambda: all(p["status"] != "running" or p["service"] for box in alive for p in
                      c.get(f"/v1/sandboxes/{box}/processes").json()["processes"]), 10,
          "no process stays running that is not")
    for box in world.ids:
        c.delete(f"/v1/sandboxes/{box}", expect=(204, 404))
        c.post(f"/sandbox/{box}/purge", expect=(200, 404)) # a workspace that outlived its row
    settle(type("Nothing", (), {"daemon": d, "exists": {}})())
    assert boxes_of(d) == []
    for name in ("workspaces", "run", "processes"):
        left = [p.name for p in pathlib.Path(d.data_dir, name).glob("*")
                if not p.name.startswith(".")]
        assert left == [], f"left in {name}"


@pytest.mark.parametrize("case", CASES)
def test_a_seam(make_daemon, case):
    seam, action = case.split("=")
    d = make_daemon(start=False, SANDBOXD_FAULT=case, SANDBOXD_SWEEP_INTERVAL="2s",
                    SANDBOXD_PORT_WAIT="2s")
    kills = action.startswith("kill")
    world = World(d)
    d.spawn()
    d.expect_exit = True # it may be killed
    until(lambda: not d.running() or world.answers(), 30, "it answers, or is dead")
    if d.running():
        world.run()
    if kills and seam not in NOT_MET:
        until(lambda: not d.running(), 2, "the seam was met")
    d.env.pop("SANDBOXD_FAULT")
    if not d.running():
        d.start()
    d.expect_exit = False
    if world.ask("GET", "/readyz").status != 200:
        assert seam in ENDS_WRITING
        d.restart()
    check(world)
    if d.containers():
        d.restart()
        until(lambda: d.containers() == [], 5, "seeds are swept")


def test_the_seams_that_are_not_met_exist():
    assert set(NOT_MET) | set(PASSES) <= set(SEAMS)
