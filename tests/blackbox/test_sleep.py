"""Sleep by truth: who is put to sleep, who is not, what wakes it, and what `why` says of it."""
import http.client
import json
import time

import pytest

from sandboxd import SLOW, Sandbox, together, until

pytestmark = pytest.mark.concurrent

BUSY = "while :; do :; done"
# Long enough for a sandbox of idle_timeout_s 1 to have been put to sleep.
ENOUGH_S = 2.5


@pytest.fixture(scope="module")
def fast():
    """A daemon that looks for idle sandboxes five times a second."""
    from sandboxd import Daemon
    d = Daemon(SANDBOXD_REAP_INTERVAL="200ms", SANDBOXD_PORT_WAIT="100ms")
    try:
        yield d.start()
    finally:
        d.close()


@pytest.fixture
def make(fast, make_sandbox):
    return lambda **fields: make_sandbox(fast, **fields)


def why(box):
    return box.client.get(box.v1 + "/why", expect=200).json()


def pause(box, expect=200):
    return box.client.post(box.v1 + "/pause", expect=expect)


def becomes(box, status, seconds=6.0):
    try:
        until(lambda: box.status == status, seconds, status)
    except AssertionError as e:
        raise AssertionError(f"{e}: {box.status}, {why(box)}") from None


def tells(box, why_asleep):
    """The cause is noted just after the state."""
    until(lambda: why(box)["asleep_because"] == why_asleep, 5, why_asleep)


def preview(daemon, box, port=3000):
    """One request to a preview, through the edge."""
    host, edge_port = daemon.env["SANDBOXED_EDGE_BIND"].split(":")
    conn = http.client.HTTPConnection(host, int(edge_port), timeout=30 * SLOW)
    try:
        conn.request("GET", "/", headers={"Host": f"s-{box.id.lower()}-{port}.preview.localhost"})
        r = conn.getresponse()
        return r.status, r.read().decode("utf-8", "replace")
    finally:
        conn.close()


def start_process(box, *cmd, **fields):
    line = cmd[0] if len(cmd) == 1 else list(cmd)
    return box.client.post(box.v1 + "/processes", {"cmd": line, **fields}, expect=201).json()["id"]


# --- idle ---


@pytest.mark.quick
def test_idle_sandboxes_sleep_as_their_policy_says_and_wake(make):
    sleeper = make(idle_timeout_s=4)
    freezer = make(idle_policy="pause", idle_timeout_s=1, stop_timeout_s=3600)
    thrower = make(idle_policy="pause", idle_timeout_s=1, stop_timeout_s=1)
    stayer = make(idle_policy="always_on", idle_timeout_s=1)
    assert why(make(idle_timeout_s=60))["awake_because"] == "it was used lately"
    assert why(stayer)["awake_because"] == "its policy is always_on"
    assert why(stayer)["sleeps_in_ms"] is None
    freezer.exec("echo kept > /tmp/memory")

    becomes(sleeper, "stopped", 10)
    tells(sleeper, "idle")
    assert why(sleeper)["awake_because"] is None
    becomes(freezer, "paused")
    tells(freezer, "idle")
    becomes(thrower, "stopped", 8)
    tells(thrower, "frozen for long")
    assert freezer.status == "paused" and stayer.status == "running"

    assert sleeper.exec("echo up")["stdout"] == "up\n"
    seen = why(sleeper)
    assert seen["status"] == "running"
    assert 0 <= seen["sleeps_in_ms"] <= 4000 if seen["sleeps_in_ms"] is not None else seen[
        "awake_because"] # its own start may have used the CPU
    assert freezer.exec("cat /tmp/memory")["stdout"] == "kept\n", "a thaw keeps memory"
    assert seen["deaths"] == 0
    last = seen["last_start"]
    assert last["total_ms"] >= last["engine_ms"] > 0
    assert last["total_ms"] >= sum(ms for phase, ms in last.items() if phase != "total_ms")
    thaw = why(freezer)["last_start"]
    assert thaw["total_ms"] == thaw["engine_ms"] > 0 == thaw["workspace_ms"] == thaw["agent_ms"], "a wake, too"


def test_work_keeps_awake_whatever_its_kind_and_its_end_starts_the_clock(make):
    def boxes():
        return make(idle_timeout_s=1), make(idle_timeout_s=1, idle_policy="pause")

    (command, command2), (process, process2), (cpu, cpu2), (kept, kept2) = (boxes() for _ in "1234")
    streams = [b.exec_stream("sh", "-c", "echo on; sleep 600") for b in (command, command2)]
    for s in streams:
        next(s.sse())
    ids = [start_process(b, "sleep", "600") for b in (process, process2)]
    for b in (cpu, cpu2):
        b.exec(BUSY, detach=True)
    for b in (kept, kept2):
        b.client.post(b.v1 + "/keepalive", {"until": int(time.time()) + 600}, expect=200)
        b.start() # it may be asleep since
    time.sleep(ENOUGH_S) # a negative: nothing to wait for
    reasons = [(command, "a command runs"), (process, "a process runs"),
               (cpu, "processes use the CPU"), (kept, "keepalive")]
    for (box, reason), other in zip(reasons, (command2, process2, cpu2, kept2)):
        assert box.status == other.status == "running", reason
        assert why(box)["awake_because"] == why(other)["awake_because"] == reason
    assert why(command)["execs"] == 1 and why(cpu)["cpu_milli"] >= 10

    for s in streams:
        s.close()
    for b, p in zip((process, process2), ids):
        b.client.post(f"{b.v1}/processes/{p}/signal", {"signal": "KILL"}, expect=202)
    for b in (command, process):
        becomes(b, "stopped")
    for b in (command2, process2):
        becomes(b, "paused")
    # The end of work counts as use: it slept no earlier than its timeout after it.
    ended = process.client.get(f"{process.v1}/processes/{ids[0]}", expect=200).json()["ended_at"]
    assert process.get()["stopped_at"] > ended


def test_a_service_alone_does_not_keep_awake(make):
    box = make(idle_timeout_s=1, services=[{"name": "web", "cmd": "sleep 600", "cwd": "/tmp"}])
    becomes(box, "stopped")


def test_a_busy_sandbox_survives_a_restart_of_the_daemon(make_daemon):
    """Nothing is known of its CPU in the first round after a start: that is no reason to sleep."""
    d = make_daemon(SANDBOXD_REAP_INTERVAL="1s")
    box = Sandbox.create(d, idle_timeout_s=3)
    box.exec(BUSY, detach=True)
    until(lambda: why(box)["awake_because"] == "processes use the CPU", 10)
    for hard in (False, True):
        d.stop() if not hard else d.kill9()
        time.sleep(3.2) # its last use is older than its timeout when the daemon is back
        d.start()
        until(lambda: why(box)["awake_because"] == "processes use the CPU" or
              box.status != "running", 10, "measured again")
        assert box.status == "running"


# --- frozen ---


def test_freezing_by_the_api_counts_from_the_freeze(make):
    """idle_timeout_s plays no part for who was frozen on purpose."""
    box = make(idle_timeout_s=3600, stop_timeout_s=5)
    assert pause(box).json()["status"] == "paused"
    assert pause(box).json()["status"] == "paused", "frozen already is success"
    assert why(box)["asleep_because"] == "somebody froze it through the API"
    assert box.client.get(f"/sandbox/{box.id}").json()["row"]["status"] == "running"
    becomes(box, "stopped")
    tells(box, "frozen for long")
    pause(box, expect=409)


def test_frozen_with_a_command_under_way_it_is_not_thrown_away(make):
    box = make(idle_timeout_s=1, stop_timeout_s=1)
    with box.exec_stream("sh", "-c", "echo one; until [ -e /tmp/go ]; do sleep 0.05; done; echo two") as s:
        events = s.sse()
        assert next(events)[0] == "started" and next(events)[1]["data"] == "one\n"
        pause(box)
        time.sleep(ENOUGH_S)
        assert box.status == "paused"
        box.start()
        box.exec("touch /tmp/go")
        assert next(events)[1]["data"] == "two\n"
        assert next(events)[1]["exit_code"] == 0


def test_by_hand_through_the_engine(make, engine):
    box = make(idle_timeout_s=3600)
    box.exec("echo kept > /tmp/memory")
    container = box.container
    engine.pause(container)
    becomes(box, "paused", 3)
    tells(box, "frozen by hand, outside of the API")
    engine.unpause(container)
    becomes(box, "running", 3)
    assert why(box)["asleep_because"] is None
    engine.pause(container)
    becomes(box, "paused", 3)
    assert box.exec("cat /tmp/memory")["stdout"] == "kept\n"
    engine.pause(container)
    becomes(box, "paused", 3)
    engine.kill(container) # the Engine thaws it for that
    becomes(box, "stopped", 3)
    by_hand = "the container ended with exit code {}: by hand, outside of the API"
    assert why(box)["asleep_because"] == by_hand.format(137)
    until(lambda: why(box)["deaths"] == 1, 5, "its death is counted")
    assert box.exec("echo up")["stdout"] == "up\n"
    # One that was out of memory some time ago, and is ended by hand now, did not die of it.
    assert box.exec("python3 -c 'bytearray(3 << 30)'")["exit_code"] != 0
    engine.stop(box.container, grace_s=30) # as long as it takes: its end must be its own
    becomes(box, "stopped", 5)
    assert why(box)["asleep_because"] == by_hand.format(0)
    box.start()
    box.stop()
    assert why(box)["asleep_because"] == "somebody stopped it through the API"


def test_a_container_restarted_by_hand_is_usable(make, engine):
    """The new agent does not know the secret of this start: the row must not claim that it runs."""
    box = make(idle_timeout_s=3600)
    engine.call("POST", f"/containers/{box.container}/restart", query={"t": 1},
                expect=(204, 500)) # the daemon may have taken its socket away in between
    until(lambda: box.client.post(f"/sandbox/{box.id}/exec", {"cmd": "echo up"}).status == 200, 20,
          "usable")


def test_awake_and_asleep_survive_the_daemon(make_daemon):
    d = make_daemon()
    frozen, stopped, running = (Sandbox.create(d) for _ in "123")
    frozen.exec("echo kept > /tmp/memory")
    pause(frozen)
    stopped.stop()
    d.restart(hard=True)
    assert (frozen.status, stopped.status, running.status) == ("paused", "stopped", "running")
    for box in (frozen, stopped):
        assert why(box)["asleep_because"] == "it was asleep when the daemon started"
        assert why(box)["last_start"] is None
    assert frozen.exec("cat /tmp/memory")["stdout"] == "kept\n"


# --- dead ---


def test_a_crash_loop_says_so_and_the_api_ends_it(make, engine, fast):
    box = make()
    assert why(box)["last_death"] is None
    for death in range(1, 5):
        engine.kill(box.container)
        becomes(box, "stopped")
        until(lambda: why(box)["deaths"] == death, 5, "its death is counted")
        assert "137" in why(box)["asleep_because"]
        if death < 4:
            status, text = preview(fast, box)
            assert status == 502, text # it is awake; nobody listens
            assert box.status == "running"
            assert "137" in why(box)["last_death"]["reason"], "told while it is awake, too"
    status, text = preview(fast, box)
    assert status == 503 and "crash loop" in text and box.status == "stopped"
    assert box.start().json()["status"] == "running"
    assert why(box)["deaths"] == 0, "started by somebody who looked at it"
    box.stop()
    assert preview(fast, box)[0] == 502 and box.status == "running"


# --- at the same time ---


@pytest.mark.parametrize("policy", ["sleep", "pause"])
def test_commands_at_the_moment_of_sleep_are_never_lost(make, policy):
    boxes = [make(idle_timeout_s=1, idle_policy=policy) for _ in range(4)]
    asleep = {"sleep": "stopped", "pause": "paused"}[policy]

    def hammer(box, first_gap):
        slept = 0
        gap = first_gap
        for _ in range(6):
            time.sleep(gap)
            slept += box.status == asleep
            assert box.exec("echo here")["stdout"] == "here\n"
            gap += 0.03
        return slept

    together(*[lambda b=b, i=i: hammer(b, 1.0 + 0.05 * i) for i, b in enumerate(boxes)])


def test_pause_and_wake_against_each_other(make):
    box = make()

    def pauses():
        for _ in range(10): # who freezes on purpose freezes commands under way, until somebody thaws
            assert box.client.post(box.v1 + "/pause").status in (200, 409)
            box.start()

    def commands():
        for i in range(10):
            assert box.exec(f"echo {i}")["stdout"] == f"{i}\n"

    together(pauses, commands, commands)
    assert box.exec("echo up")["stdout"] == "up\n"


# --- memory ---


def test_under_pressure_the_longest_idle_goes_first_and_never_one_with_work(make_daemon):
    d = make_daemon(SANDBOXD_MEM_HEADROOM_PCT=100, SANDBOXD_MEM_REFUSE_WAKES_PCT=0,
                    SANDBOXD_MEM_EMERGENCY_PCT=0, SANDBOXD_REAP_INTERVAL="1h")
    busy = Sandbox.create(d)
    always = Sandbox.create(d, idle_policy="always_on")
    boxes = [Sandbox.create(d) for _ in range(2)]
    frozen = Sandbox.create(d)
    start_process(busy, "sleep", "600")
    pause(frozen)
    time.sleep(1.1) # activity is kept to the second
    boxes[1].exec("true")
    d.stop()
    d.env["SANDBOXD_REAP_INTERVAL"] = "2s"
    d.start()
    asleep = (*boxes, frozen)
    until(lambda: all(b.status == "stopped" for b in asleep), 20, "all of them")
    assert boxes[0].get()["stopped_at"] < boxes[1].get()["stopped_at"]
    for b in asleep:
        tells(b, "memory pressure")
    until(lambda: d.log().count("sandbox.asleep") >= 3, 5)
    assert busy.status == "running" and always.status == "running"
    assert busy.exec("echo still")["stdout"] == "still\n"


def test_emergencies_take_all_that_are_idle(make_daemon):
    d = make_daemon(SANDBOXD_MEM_HEADROOM_PCT=100, SANDBOXD_MEM_REFUSE_WAKES_PCT=0,
                    SANDBOXD_MEM_EMERGENCY_PCT=100, SANDBOXD_REAP_INTERVAL="1h")
    busy, always, kept = (Sandbox.create(d, idle_policy="always_on") for _ in "123")
    kept.client.post(kept.v1 + "/keepalive", expect=200)
    d.stop()
    d.env["SANDBOXD_REAP_INTERVAL"] = "200ms"
    d.start()
    with busy.exec_stream("sleep", "600"):
        for box in (always, kept):
            becomes(box, "stopped", 10)
            tells(box, "memory emergency")
        assert busy.status == "running"


def test_starts_are_refused_below_the_floor_and_let_in_above_it(make_daemon):
    d = make_daemon()
    asleep, awake = Sandbox.create(d), Sandbox.create(d)
    asleep.stop()
    start_process(awake, "sleep", "600")
    d.stop()
    d.env["SANDBOXD_MEM_REFUSE_WAKES_PCT"] = "100"
    d.start()
    for r in (asleep.start(expect=503), d.post("/v1/sandboxes", {}, expect=503)):
        assert r.code == "sandbox_capacity" and "low_memory" in r.text
        assert int(r.headers["Retry-After"]) > 0 and "remedy" in r.json()["error"]
    status, text = preview(d, asleep)
    assert status == 503 and "memory" in text
    assert awake.status == "running" and awake.exec("echo on")["stdout"] == "on\n"
    pause(awake)
    assert awake.exec("echo thawed")["stdout"] == "thawed\n", "a thaw needs no memory"
    assert len(json.loads(d.get("/v1/sandboxes").text)["sandboxes"]) == 2
    d.stop()
    d.env["SANDBOXD_MEM_REFUSE_WAKES_PCT"] = "0"
    d.start()
    assert asleep.start().json()["status"] == "running"
