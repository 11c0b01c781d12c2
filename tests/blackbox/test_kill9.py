"""kill -9 of the daemon at random moments under load, with a ledger (F-1; invariants I1, I2, I6).

Clients write to an fsynced file what they are about to ask and what was answered. After each kill
the daemon is started again and the ledger, the API, the Engine and the disk are compared: what was
answered with success is there (I1), containers and rows match (I2), nothing is left over (I6).
What was asked and not answered may have happened or not, but wholly. The seed of a run is printed;
SANDBOXED_TEST_SEED runs it again."""

import http.client
import json
import os
import pathlib
import random
import re
import threading
import time

import pytest

from sandboxd import SLOW, Sandbox, new_id, together, until

KILLS = 30
LOST = (OSError, http.client.HTTPException)


class Ledger:
    """The clients' memory: a line before each request and a line after each answer."""

    def __init__(self, path):
        self._file = open(path, "a", buffering=1)
        self._lock = threading.Lock()
        self.entries = 0

    def write(self, **entry):
        with self._lock:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self.entries += 1


class Worker:
    """One client with a few ids of its own, one request at a time; so it knows what each of them
    must be: model[id] is what was last known for sure, unsure[id] what an unanswered request may
    have made of it. State: None (no row, workspace or not), "running", "stopped"."""

    def __init__(self, daemon, ledger, seed, number):
        self.daemon, self.ledger, self.number = daemon, ledger, number
        self.rng = random.Random(f"{seed}.{number}")
        self.ids = [new_id() for _ in range(2)]
        self.model = {i: {"state": None, "files": {}} for i in self.ids}
        self.unsure = {}
        self.failures = []
        self.done = 0

    def ask(self, box_id, op, method, path, ok, json_body=None, raw=None):
        """Returns the reply, or None when there was none; then the outcome is unknown."""
        self.ledger.write(worker=self.number, id=box_id, op=op, path=path)
        try:
            reply = self.daemon.client(timeout=30).request(method, path, json=json_body, raw=raw)
        except LOST:
            self.ledger.write(worker=self.number, id=box_id, op=op, answer=None)
            return None
        self.ledger.write(worker=self.number, id=box_id, op=op, answer=reply.status)
        self.done += 1
        if reply.status not in ok:
            self.failures.append(f"{op} of {box_id}: {reply}")
        return reply

    def step(self):
        box_id = self.rng.choice(self.ids)
        known = self.model[box_id]
        v1 = f"/v1/sandboxes/{box_id}"
        if known["state"] is None:
            reply = self.ask(box_id, "create", "POST", "/v1/sandboxes", (201,), {"id": box_id})
            if reply is None:
                self.unsure[box_id] = {"running", "error", None}
            elif reply.status == 201:
                known["state"] = "running"
            return reply is not None
        op = self.rng.choice(["put"] * 5 + ["exec"] * 5 + ["stop", "start", "delete", "purge"])
        if op == "put":
            name = f"f{self.rng.randrange(6)}"
            content = f"{box_id} {self.rng.random()} ".encode() * self.rng.choice([1, 50, 5000])
            reply = self.ask(box_id, op, "PUT", f"{v1}/files?path={name}", (200,), raw=content)
            if reply is None:
                known["files"].setdefault(name, [None])
                known["files"][name].append(content)
            elif reply.status == 200:
                known["files"][name] = [content]
        elif op == "exec":
            mark = f"{self.rng.random()}"
            reply = self.ask(box_id, op, "POST", f"/sandbox/{box_id}/exec", (200,),
                             {"cmd": f"echo {mark} > ~/x.tmp && mv ~/x.tmp ~/x && sync ~/x"})
            if reply is None:
                known["files"].setdefault("/home/sandbox/x", [None])
                known["files"]["/home/sandbox/x"].append(mark.encode() + b"\n")
                self.unsure[box_id] = {"running", known["state"]}
            elif reply.status == 200:
                if reply.json()["exit_code"] != 0:
                    self.failures.append(f"exec in {box_id}: {reply}")
                known["files"]["/home/sandbox/x"] = [mark.encode() + b"\n"]
                known["state"] = "running"
        else:
            method, path, ok, after = {
                "stop": ("POST", v1 + "/stop", (200,), "stopped"),
                "start": ("POST", v1 + "/start", (200,), "running"),
                "delete": ("DELETE", f"/sandbox/{box_id}", (204,), None),
                "purge": ("DELETE", v1, (204,), None)}[op]
            reply = self.ask(box_id, op, method, path, ok)
            if reply is None:
                self.unsure[box_id] = {known["state"], after}
                if op == "purge":
                    # Begun once, it is carried on: files may be all there or all gone.
                    for versions in known["files"].values():
                        versions.append(None)
                    known["purging"] = True
            elif reply.status in ok:
                known["state"] = after
                if op == "purge":
                    known["files"] = {}
        return reply is not None

    def run(self):
        while self.step():
            pass

    def check(self):
        """I1 for the ids of this worker; then what is seen becomes what is known."""
        problems = []
        for box_id in self.ids:
            known = self.model[box_id]
            reply = self.daemon.get(f"/v1/sandboxes/{box_id}")
            state = None if reply.status == 404 else reply.json()["status"]
            legal = self.unsure.pop(box_id, {known["state"]})
            if state not in legal:
                problems.append(f"{box_id} is {state}, must be one of {legal}")
            if state == "error":  # a create that was cut; only its end is asked for
                self.daemon.delete(f"/v1/sandboxes/{box_id}").expect(204)
                state, known["files"] = None, {}
            root = self.daemon.workspace(box_id)
            purged = known.pop("purging", False) and state is None and not root.exists()
            for name, versions in list(known["files"].items()):
                path = root / (name[len("/home/sandbox/"):] if name.startswith("/")
                               else f"workspace/app/{name}")
                found = path.read_bytes() if path.exists() else None
                if purged:
                    found = None
                if found not in versions:
                    problems.append(f"{box_id}: {name} is {(found or b'None')[:60]!r} of "
                                    f"{len(found or b'')} bytes, none of {len(versions)} versions")
                if found is None:
                    known["files"].pop(name)
                else:
                    known["files"][name] = [found]
            if state is not None and not root.is_dir():
                problems.append(f"{box_id} has no workspace")
            known["state"] = state
        return problems


def mismatches(daemon):
    """I2 and I6: rows against containers, and what should not be there."""
    out = []
    rows = {s["id"]: s["status"]
            for s in daemon.get("/v1/sandboxes?limit=1000").json()["sandboxes"]}
    found = {}
    for c in daemon.containers():
        found.setdefault(c["Labels"].get("sandboxed.id"), []).append(c["State"])
    for box_id, states in found.items():
        if box_id not in rows or len(states) != 1:
            out.append(f"containers of {box_id}: {states}, row {rows.get(box_id)}")
    for box_id, status in rows.items():
        up = found.get(box_id, []).count("running")
        if status not in ("running", "stopped", "error") or up != (status == "running"):
            out.append(f"{box_id}: row {status}, containers {found.get(box_id)}")
    data = pathlib.Path(daemon.data_dir)
    runs = {p.name for p in (data / "run").iterdir() if p.is_dir()}
    if runs - set(rows):
        out.append(f"run directories without a row: {runs - set(rows)}")
    for place in data / "workspaces", data / "golden":
        for p in place.iterdir():
            if not re.fullmatch(r"[0-9A-Z]{26}|(sha256[-:.])?[0-9a-f]{64}", p.name):
                out.append(f"left over: {p}")
    try:
        for p in (data / "workspaces").glob("*/**/*"):
            if re.search(r"\.put-|\.tmp$|sandboxed-", p.name) and p.name != "x.tmp":
                out.append(f"temporary file: {p}")
    except FileNotFoundError as e: # what is being removed
        out.append(f"goes away: {e.filename}")
    return out


def settle(daemon, when):
    try:
        until(lambda: mismatches(daemon) == [], 10, when)
    except AssertionError as e:
        raise AssertionError(f"{e}: {mismatches(daemon)}") from None


@pytest.mark.drill
@pytest.mark.timeout(600 * SLOW)
def test_random_kills_lose_nothing(make_daemon, engine, tmp_path):
    seed = os.environ.get("SANDBOXED_TEST_SEED") or str(random.SystemRandom().randrange(10 ** 9))
    print(f"seed {seed}")
    rng = random.Random(seed)
    d = make_daemon(SANDBOXD_SWEEP_INTERVAL="2s", SANDBOXD_STOP_GRACE="300ms")
    # One sandbox that nobody touches: its process must never notice any of this.
    quiet = Sandbox.create(d)
    pid = quiet.exec("sleep", "6000.1", detach=True)["pid"]
    look = f"cut -d' ' -f22 /proc/{pid}/stat; tr '\\0' ' ' < /proc/{pid}/cmdline"
    untouched = quiet.exec(look)["stdout"]
    container = engine.inspect(quiet.container)
    assert "sleep 6000.1" in untouched
    ledger = Ledger(tmp_path / "ledger")
    workers = [Worker(d, ledger, seed, n) for n in range(4)]
    for n in range(KILLS):
        threads = [threading.Thread(target=w.run) for w in workers]
        for t in threads:
            t.start()
        # Any moment: some kills come before the first answer, some after a dozen.
        target = sum(w.done for w in workers) + rng.choice([0, 1, 2, 5, 10, 20])
        pause = time.monotonic() + rng.random() * 0.3
        until(lambda: sum(w.done for w in workers) >= target and time.monotonic() >= pause, 30,
              "load")
        d.kill9()
        for t in threads:
            t.join(40 * SLOW)
            assert not t.is_alive()
        state = engine.inspect(container["Id"])["State"]
        assert (state["Pid"], state["StartedAt"]) == (
            container["State"]["Pid"], container["State"]["StartedAt"])
        d.start(deadline_s=20)
        settle(d, f"seed {seed}, kill {n}")
        problems = [p for w in workers for p in w.failures + w.check()]
        assert problems == [], f"seed {seed}, kill {n}:\n" + "\n".join(problems)
    assert quiet.exec(look)["stdout"] == untouched
    print(f"{sum(w.done for w in workers)} requests answered between {KILLS} kills")
    assert sum(w.done for w in workers) >= KILLS, "the drill was under load"
    assert d.post(f"/sandbox/{quiet.id}/exec", {"cmd": ["true"]}).status == 200


@pytest.mark.drill
@pytest.mark.timeout(600 * SLOW)
def test_a_kill_during_each_call(make_daemon):
    """Killed some milliseconds into one call, the same for all kinds; then asked again, it is done
    once and truly."""
    d = make_daemon(SANDBOXD_STOP_GRACE="300ms")
    key = new_id()

    def call(method, path, body=None, headers=None):
        try:
            return d.client(timeout=30).request(method, path, json=body, headers=headers)
        except LOST:
            return None

    wanted = new_id()
    for delay_ms in 1, 8, 30, 80, 150, 250, 400:
        v1 = f"/v1/sandboxes/{wanted}"
        for method, path, body, done in [
            ("POST", "/v1/sandboxes", {"id": wanted}, "running"),
            ("POST", v1 + "/stop", None, "stopped"), ("POST", v1 + "/start", None, "running"),
            ("DELETE", v1, None, None)]:
            headers = {"Idempotency-Key": f"{key}-{delay_ms}"} if body else None

            def kill():
                end = time.monotonic() + delay_ms / 1000
                while time.monotonic() < end:
                    pass
                d.kill9()

            together(lambda: call(method, path, body, headers), kill)
            d.start(deadline_s=20)
            settle(d, f"{method} {path} at {delay_ms} ms")
            reply = call(method, path, body, headers)
            if reply.status >= 400:
                state = d.get(v1)
                if done is None:
                    assert reply.status == 404, reply
                elif body:
                    assert reply.status == 409 and state.json()["status"] == done, (reply, state)
            state = d.get(v1)
            assert (None if state.status == 404 else state.json()["status"]) == done, (
                method, path, delay_ms, reply)
