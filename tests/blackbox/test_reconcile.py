"""Rows stay true whatever happens to containers, the Engine or the daemon (F-10 to F-13)."""

import shutil
import tempfile
import time

import pytest

import engine_proxy as faults
from sandboxd import DATA_PREFIX, PATIENCE, Daemon, Sandbox, list_all, new_id, together, until


@pytest.fixture(scope="module")
def box(_shared):
    box = Sandbox.create(_shared)
    box.put_file("/home/sandbox/kept", b"kept\n")
    yield box
    box.purge(expect=(204, 404))


def running(box):
    """The sandbox is up and usable."""
    if box.status != "running":
        box.start()
    assert box.exec("cat ~/kept")["stdout"] == "kept\n"


def noticed(box, status="stopped", seconds=2.5):
    """Row and engine agree soon after a change by hand: before a sweep would find it."""
    until(lambda: box.status == status, seconds, f"{status} (is {box.status})")


def match(daemon):
    """I2: containers and rows one to one, states equal."""
    def differences():
        rows = {s["id"]: s["status"] for s in list_all(daemon.client())}
        boxes = {}
        for c in daemon.containers():
            boxes.setdefault(c["Labels"].get("sandboxed.id"), []).append(c)
        out = []
        for box_id, found in boxes.items():
            if box_id not in rows:
                out.append(f"container without a row: {found[0]['Names']}")
            if len(found) > 1:
                out.append(f"{len(found)} containers of {box_id}")
            if found[0]["Names"] != [f"/s-{(box_id or '').lower()}"]:
                out.append(f"{box_id} is called {found[0]['Names']}")
        for box_id, status in rows.items():
            up = [c["State"] for c in boxes.get(box_id, [])].count("running")
            if status not in ("running", "stopped", "error") or up != (status == "running"):
                out.append(f"{box_id}: row {status}, running containers {up}")
        return out

    until(lambda: differences() == [], 10, f"rows and containers match: {differences()}")


# --- changes by hand ---


@pytest.mark.quick
@pytest.mark.parametrize("how", ["kill", "stop", "remove", "kill the agent"])
def test_a_container_ended_by_hand_is_noticed_and_comes_back(daemon, engine, box, how):
    running(box)
    container = box.container
    if how == "kill the agent":
        engine.kill(container, "SIGKILL")
    elif how == "stop":
        engine.stop(container)
    elif how == "remove":
        engine.remove(container)
    else:
        engine.kill(container)
    noticed(box)
    assert daemon.get(f"/sandbox/{box.id}").json()["row"]["status"] == "stopped"
    running(box)
    match(daemon)


@pytest.mark.quick
def test_exec_brings_a_removed_container_back(daemon, engine, box):
    running(box)
    engine.remove(box.container)
    noticed(box)
    assert box.exec("cat ~/kept")["stdout"] == "kept\n"
    match(daemon)


@pytest.mark.quick
def test_a_renamed_container_is_noticed(daemon, engine, box):
    running(box)
    container = box.container
    engine.rename(container, f"sandboxed-test-renamed-{new_id().lower()}")
    until(lambda: (seen := engine.inspect(container)) is None
          or seen["Name"] == f"/s-{box.id.lower()}" or box.status != "running", 1, "noticed")
    running(box)
    match(daemon)


def test_a_paused_container_is_noticed(daemon, engine, box):
    running(box)
    container = box.container
    engine.pause(container)
    try:
        until(lambda: box.status != "running"
              or not engine.inspect(container)["State"]["Paused"], 5, "noticed")
        assert box.exec("cat ~/kept")["stdout"] == "kept\n", "its next command wakes it"
    finally:
        if (seen := engine.inspect(container)) and seen["State"]["Paused"]:
            engine.unpause(container)
    match(daemon)


def test_a_container_started_by_hand_is_noticed(daemon, engine, box):
    running(box)
    box.stop()
    found = daemon.containers(box.id)
    if found:  # a stop that keeps the container: somebody may try to start it
        engine.call("POST", f"/containers/{found[0]['Id']}/start", expect=(204, 304, 400, 500))
        until(lambda: (box.status == "running")
              == any(c["State"] == "running" for c in daemon.containers(box.id)), 5, "they agree")
    running(box)
    match(daemon)


def test_a_network_removed_by_hand_is_made_again(make_daemon, engine):
    d = make_daemon()
    box = Sandbox.create(d)
    box.stop()
    for c in d.containers():
        engine.remove(c["Id"])
    for n in engine.networks(d.instance):
        engine.call("DELETE", f"/networks/{n['Id']}", expect=204)
    assert box.start().json()["status"] == "running"
    assert box.exec("echo up")["stdout"] == "up\n"


# --- the daemon away ---


@pytest.mark.concurrent
def test_what_happened_while_the_daemon_was_away(make_daemon, engine):
    d = make_daemon()
    names = "same", "killed", "removed", "stopped"
    boxes = dict(zip(names, together(*[lambda: Sandbox.create(d)] * 4)))
    pid = boxes["same"].exec("sleep", "5000.1", detach=True)["pid"]
    containers = {n: b.container for n, b in boxes.items()}
    boxes["stopped"].stop()
    d.kill9()
    engine.kill(containers["killed"])
    until(lambda: not engine.inspect(containers["killed"])["State"]["Running"], what="it is killed")
    engine.remove(containers["removed"])
    orphan_id = new_id()
    orphan = engine.create(f"s-{orphan_id.lower()}", {
        "Image": "sandboxd-test:latest", "Cmd": ["sleep", "600"],
        "Labels": {"sandboxed.instance": d.instance, "sandboxed.id": orphan_id,
                   "sandboxed.revision": "1"}, "HostConfig": {"NetworkMode": "none"}})
    engine.start(orphan)
    stranger = engine.create(f"sandboxed-test-stranger-{orphan_id.lower()}", {
        "Image": "sandboxd-test:latest", "Cmd": ["sleep", "600"],
        "Labels": {"sandboxed.instance": "of-somebody-else", "sandboxed.id": orphan_id},
        "HostConfig": {"NetworkMode": "none"}})
    try:
        d.start()
        until(lambda: engine.inspect(orphan) is None, 10, "the orphan is removed")
        assert engine.inspect(stranger), "what is not ours stays"
    finally:
        engine.remove(stranger)
    assert {n: b.status for n, b in boxes.items()} == {
        "same": "running", "killed": "stopped", "removed": "stopped", "stopped": "stopped"}
    same = boxes["same"]
    assert same.container == containers["same"]
    assert same.exec(f"ps -o args= -p {pid}")["stdout"].strip() == "sleep 5000.1"
    match(d)
    for b in boxes.values():
        assert b.exec("echo up")["stdout"] == "up\n"
    match(d)


@pytest.mark.quick
def test_an_exec_right_after_the_restart_works(make_daemon):
    """The agent redials; the first command waits for it instead of failing."""
    d = make_daemon()
    box = Sandbox.create(d)
    for hard in True, False, True:
        d.restart(hard=hard)
        assert box.exec("echo up")["stdout"] == "up\n"


# --- the Engine away ---


def test_engine_away_is_said_within_two_seconds_and_ends_by_itself(engine_proxy, make_daemon):
    d = make_daemon(DOCKER_HOST=engine_proxy.docker_host)
    box = Sandbox.create(d)
    asleep = Sandbox.create(d)
    asleep.stop()
    engine_proxy.refuse()
    for method, path, body in [
        ("POST", "/v1/sandboxes", {}), ("POST", "/sandbox", {}),
        ("POST", asleep.v1 + "/start", None), ("POST", box.v1 + "/stop", None),
        ("POST", f"/sandbox/{asleep.id}/exec", {"cmd": ["true"]}),
        ("DELETE", f"/sandbox/{box.id}", None),
    ]:
        began = time.monotonic()
        reply = d.call(method, path, body)
        assert time.monotonic() - began < 2 * PATIENCE, path
        assert reply.status == 503 and int(reply.headers["Retry-After"]) >= 1, (path, reply)
        error = reply.json()["error"]
        message = error["message"] if isinstance(error, dict) else error
        assert "Engine" in message and engine_proxy.path in message, message
        if isinstance(error, dict):
            assert error["code"] == "engine_unavailable" and error["retryable"] is True
            assert error["remedy"]
    # What needs no Engine goes on.
    assert d.get("/healthz").status == 200
    assert box.exec("echo up")["stdout"] == "up\n"
    box.put_file("x", b"x")
    assert {s["id"] for s in d.get("/v1/sandboxes").json()["sandboxes"]} >= {box.id, asleep.id}
    reply = until(lambda: (r := d.get("/readyz")).status == 503 and r, 5, "/readyz says no")
    assert "ngine" in reply.text
    engine_proxy.accept()
    until(lambda: d.get("/readyz").status == 200, 10, "ready again without a restart")
    assert asleep.start().json()["status"] == "running"
    Sandbox.create(d).purge()
    until(lambda: box.status in ("running", "stopped"), 10, "settled")
    match(d)


def test_a_start_without_the_engine(engine_proxy, make_daemon):
    engine_proxy.refuse()
    d = make_daemon(start=False, DOCKER_HOST=engine_proxy.docker_host)
    d.spawn()

    def answers():
        try:
            return d.get("/readyz")
        except OSError:
            return None

    reply = until(answers, 5, "it listens")
    assert reply.status == 503 and "ngine" in reply.text
    assert d.get("/healthz").status == 200
    assert d.post("/v1/sandboxes", {}).status == 503
    engine_proxy.accept()
    until(lambda: d.get("/readyz").status == 200, 10, "ready")
    assert d.get("/v1/sandboxes").json()["sandboxes"] == [], "a refused create leaves no row"
    Sandbox.create(d)
    match(d)


def test_an_engine_that_hangs(engine_proxy, make_daemon):
    d = make_daemon(DOCKER_HOST=engine_proxy.docker_host)
    engine_proxy.on(".*", faults.hang)
    began = time.monotonic()
    reply = d.post("/v1/sandboxes", {})
    assert reply.status in (503, 504) and time.monotonic() - began < 3 * PATIENCE, reply
    assert d.get("/healthz").status == 200
    engine_proxy.clear()
    until(lambda: d.get("/readyz").status == 200, 10, "ready again")
    Sandbox.create(d)
    match(d)


CREATE, START = r"^POST /containers/create", r"^POST /containers/[0-9a-f]+/start"


@pytest.mark.parametrize("pattern", [CREATE, START], ids=["create", "start"])
@pytest.mark.parametrize("action", [faults.drop_before, faults.drop_after, faults.cut_reply,
                                    faults.garbage, faults.garbage_json, faults.error_after,
                                    faults.delay(1.0)],
                         ids=["drop before", "drop after", "cut", "garbage", "garbage json",
                              "error after", "delay"])
def test_a_reply_that_is_lost_or_spoilt_makes_nothing_twice(faulty, pattern, action):
    d, proxy = faulty
    wanted = new_id()
    rule = proxy.on(pattern, action, times=1)
    reply = d.post("/v1/sandboxes", {"id": wanted})
    assert rule.hits == 1
    proxy.clear()
    assert len(d.containers(wanted)) <= 1
    match(d)
    if reply.status == 201:
        box = Sandbox(d, wanted)
    else:
        assert reply.status in (500, 502, 503, 504), reply
        message = reply.json()["error"]["message"]
        assert message and "\x00" not in message
        box = Sandbox(d, wanted)
        assert box.status == "error" and box.get()["error"]["message"]
        box.start()
    assert box.exec("echo up")["stdout"] == "up\n"
    assert len(d.containers(wanted)) == 1
    box.purge()
    assert d.containers(wanted) == []


@pytest.fixture(scope="module")
def faulty():
    """A daemon behind a proxy of its own, shared by the rows of the table above."""
    home = tempfile.mkdtemp(prefix=DATA_PREFIX)
    with faults.EngineProxy(home + "/engine.sock") as proxy:
        with Daemon(DOCKER_HOST=proxy.docker_host) as d:
            yield d.start(), proxy
    shutil.rmtree(home)


@pytest.mark.parametrize("action", [faults.drop_before, faults.drop_after, faults.cut_reply,
                                    faults.garbage, faults.error_after],
                         ids=["drop before", "drop after", "cut", "garbage", "error after"])
@pytest.mark.parametrize("pattern, end", [
    (r"^POST /containers/[0-9a-f]+/(stop|kill|wait)", "stop"),
    (r"^DELETE /containers/", "purge")], ids=["stop", "remove"])
def test_an_end_whose_reply_is_lost_can_be_asked_again(faulty, pattern, end, action):
    d, proxy = faulty
    box = Sandbox.create(d)
    proxy.on(pattern, action, times=1)
    first = getattr(box, end)(expect=(200, 204, 404, 409, 500, 502, 503, 504))
    proxy.clear()
    if first.status >= 400:
        def again():
            return getattr(box, end)(expect=(200, 204, 404, 409, 503)).status in (200, 204, 404)
        until(again, 10, "asked again it succeeds")
    if end == "stop":
        noticed(box, seconds=5)
        box.purge()
    assert d.containers(box.id) == [] and not box.workspace.exists()


def test_a_frozen_event_stream_is_made_up_for_by_the_sweep(engine_proxy, make_daemon, engine):
    d = make_daemon(DOCKER_HOST=engine_proxy.docker_host, SANDBOXD_SWEEP_INTERVAL="1s")
    box = Sandbox.create(d)
    until(lambda: engine_proxy.count("^GET /events") > 0, 5, "it follows the events")
    engine_proxy.events_frozen = True
    engine.kill(box.container)
    noticed(box, seconds=5)
    engine_proxy.events_frozen = False
    box.start()
    assert box.exec("echo up")["stdout"] == "up\n"


def test_an_event_stream_that_breaks_is_followed_again(engine_proxy, make_daemon, engine):
    d = make_daemon(DOCKER_HOST=engine_proxy.docker_host, SANDBOXD_SWEEP_INTERVAL="1h")
    box = Sandbox.create(d)
    for _ in range(2):
        engine_proxy.refuse()
        engine.kill(box.container)  # missed: nobody listens
        engine_proxy.accept()
        noticed(box, seconds=8)
        box.start()
    engine.kill(box.container)
    noticed(box)


def test_killed_while_it_starts_the_caller_hears_why(engine_proxy, make_daemon, engine):
    d = make_daemon(DOCKER_HOST=engine_proxy.docker_host)
    box = Sandbox.create(d)
    box.stop()

    def kill_then_answer(x):
        reply = x.forward()
        engine.kill(box.container)
        x.send(reply)
    engine_proxy.on("POST .*/start", kill_then_answer, times=1)
    r = box.start(expect=503)
    assert r.code == "sandbox_unavailable", "waiting for its agent to the end would be a timeout"
    assert "it ended while it started: the container ended with exit code 137" in r.text
    assert "exit code 137" in box.get()["error"]["message"]
    assert box.start().json()["status"] == "running"


@pytest.mark.concurrent
def test_hands_in_the_works(make_daemon, engine):
    """Containers are killed and removed while clients use them: each call is answered legally, and
    rows are true in the end."""
    d = make_daemon()
    boxes = together(*[lambda: Sandbox.create(d)] * 3)
    end = time.monotonic() + 6

    def user(box):
        client = Sandbox(d, box.id)
        while time.monotonic() < end:
            # 504: the container was taken away while its agent was waited for.
            client.client.post(f"/sandbox/{box.id}/exec", {"cmd": "echo up"}).expect(
                200, 409, 503, 504)
            client.start(expect=(200, 409, 503, 504))

    def vandal():
        n = 0
        while time.monotonic() < end:
            box = boxes[n % 3]
            for c in d.containers(box.id):
                (engine.kill if n % 2 else engine.remove)(c["Id"])
            n += 1
            until(lambda: time.monotonic() > end or any(
                c["State"] == "running" for c in d.containers(boxes[n % 3].id)), 10, "next victim")

    together(*[lambda b=b: user(b) for b in boxes], vandal)
    match(d)
    for b in boxes:
        assert b.exec("echo up")["stdout"] == "up\n"
