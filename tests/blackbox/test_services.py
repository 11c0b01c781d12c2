"""Services: declared, kept running, looked at; and commands that become services."""
import json
import re
import time

import pytest

from sandboxd import Sandbox, together, until

pytestmark = pytest.mark.concurrent

SERVER = "python3 -m http.server {} --bind 127.0.0.1"


def services(box):
    return box.client.get(box.v1 + "/services", expect=200).json()


def service(box, name):
    found = [s for s in services(box)["services"] if s["name"] == name]
    assert len(found) == 1, f"{name}: {services(box)}"
    return found[0]


def becomes(box, name, status, seconds=10):
    try:
        return until(lambda: next((s for s in services(box)["services"]
                                   if (s["name"], s["status"]) == (name, status)), None),
                     seconds, f"{name} {status}")
    except AssertionError as e:
        raise AssertionError(f"{e}: {services(box)}") from None


def act(box, name, what, expect=200):
    return box.client.post(f"{box.v1}/services/{name}/{what}", expect=expect)


def logs(box, name, query="", expect=200):
    return box.client.get(f"{box.v1}/services/{name}/logs{query}", expect=expect).text


def processes(box, name):
    """Running processes of a service."""
    return [p for p in box.client.get(box.v1 + "/processes", expect=200).json()["processes"]
            if p["service"] == name and p["status"] == "running"]


def yaml(box, text):
    box.put_file("workspace/app/sandbox.yaml", text.encode() if isinstance(text, str) else text)


def instances(box, pattern):
    return box.exec("pgrep", "-fc", pattern)["stdout"].strip()


@pytest.fixture(scope="module")
def box(_shared):
    box = Sandbox.create(_shared)
    box.exec("mkdir -p ~/workspace/app")
    yield box
    box.purge(expect=(204, 404))


# --- declared ---


@pytest.mark.quick
def test_declared_at_create_they_run_and_come_back(make_daemon):
    d = make_daemon()
    box = Sandbox.create(d, ports=[3100], env={"FROM": "sandbox"}, services=[
        {"name": "web", "cmd": "python3 -m http.server $PORT", "cwd": "/tmp", "port": 3100},
        {"name": "worker", "cmd": ["sh", "-c", "echo $FROM $X; sleep 6001"], "cwd": "/tmp",
         "env": {"X": "own"}, "restart": "on-failure"},
        {"name": "once", "cmd": "echo done; exit 3", "cwd": "/tmp", "restart": "never"},
    ])

    def all_up():
        assert [s["name"] for s in services(box)["services"]] == ["web", "worker", "once"]
        becomes(box, "web", "running")
        becomes(box, "worker", "running")
        until(lambda: service(box, "web")["listening"], 10, "listening")
        until(lambda: instances(box, "^sleep 6001") == "1", 5, "one worker")
        assert len(processes(box, "web")) == len(processes(box, "worker")) == 1

    all_up()
    web = service(box, "web")
    assert web["port"] == 3100 and web["restart"] == "always" and web["restarts"] == 0
    assert web["problem"] is None and web["cmd"] == "python3 -m http.server $PORT"
    assert services(box)["problem"] is None
    until(lambda: "sandbox own" in logs(box, "worker"), 5)
    once = becomes(box, "once", "ended")
    assert once["last_exit_code"] == 3 and once["restarts"] == 0
    opened = until(lambda: [p for p in box.get()["ports"] if p["port"] == 3100], 5)
    assert opened[0]["url"].startswith("http://s-")

    # asleep: declared, not running, nothing asked
    box.stop()
    assert {s["status"] for s in services(box)["services"]} == {"stopped"}
    assert box.get()["services"] == [{"name": n, "status": "stopped"}
                                     for n in ("web", "worker", "once")]
    assert box.start().json()["services"][0] == {"name": "web", "status": "running"}
    all_up()
    becomes(box, "once", "ended")
    # a daemon that comes back takes up what runs
    before = processes(box, "web")[0]["id"], processes(box, "worker")[0]["pid"]
    for hard in (True, False):
        d.restart(hard=hard)
        all_up()
        until(lambda: processes(box, "worker")[0]["pid"], 5, "taken up")
        assert (processes(box, "web")[0]["id"], processes(box, "worker")[0]["pid"]) == before
        assert service(box, "once")["status"] == "ended"
    # frozen, also over a restart of the daemon
    box.client.post(box.v1 + "/pause", expect=200)
    d.restart(hard=True)
    assert {s["status"] for s in services(box)["services"]} == {"running", "ended"} \
        and box.status == "paused"
    assert box.exec("kill $(pgrep -f '^python3 .*http.server 3100')")["exit_code"] == 0
    until(lambda: service(box, "web")["restarts"] == 1, 10, "supervised after the thaw")
    all_up()
    box.client.delete(f"/sandbox/{box.id}", expect=204)


@pytest.mark.parametrize("fields, word", [
    ({"name": "Web", "cmd": "x"}, "services.0.name"),
    ({"name": "", "cmd": "x"}, "services.0.name"),
    ({"name": "-a", "cmd": "x"}, "services.0.name"),
    ({"name": "a-", "cmd": "x"}, "services.0.name"),
    ({"name": "a" * 33, "cmd": "x"}, "services.0.name"),
    ({"cmd": "x"}, "services.0.name"),
    ({"name": "a"}, "services.0.cmd"),
    ({"name": "a", "cmd": ""}, "services.0.cmd"),
    ({"name": "a", "cmd": [1]}, "services.0.cmd"),
    ({"name": "a", "cmd": "x", "port": 0}, "services.0.port"),
    ({"name": "a", "cmd": "x", "port": 65536}, "services.0.port"),
    ({"name": "a", "cmd": "x", "restart": "sometimes"}, "services.0.restart"),
    ({"name": "a", "cmd": "x", "health_path": "x", "port": 1}, "services.0.health_path"),
    ({"name": "a", "cmd": "x", "health_path": "/x"}, "services.0.health_path"),
    ({"name": "a", "cmd": "x", "env": {"SANDBOXED_X": "1"}}, "services.0.env"),
    ({"name": "a", "cmd": "x", "cwd": "/etc"}, "services.0.cwd"),
    ({"name": "a", "cmd": "x", "cwd": "../../.."}, "services.0.cwd"),
    ({"name": "a", "cmd": "x", "bogus": 1}, "services.0.bogus"),
    ({"name": "a", "cmd": "x" * 200000}, "services"),
])
def test_wrong_declarations_are_refused(client, fields, word):
    r = client.post("/v1/sandboxes", {"services": [fields]}, expect=400)
    assert word in r.json()["error"]["message"]


def test_too_many_and_twice_the_same_are_refused(client):
    r = client.post("/v1/sandboxes", {"services": [{"name": "a", "cmd": "x"}] * 2}, expect=400)
    assert "a is there twice" in r.text
    many = [{"name": f"s{i}", "cmd": "x"} for i in range(17)]
    client.post("/v1/sandboxes", {"services": many}, expect=400)


# --- sandbox.yaml ---


@pytest.mark.quick
def test_the_workspace_declares(make_sandbox):
    box = make_sandbox(services=[{"name": "both", "cmd": "echo of the row; sleep 6002",
                                  "cwd": "/tmp"}])
    box.exec("mkdir -p ~/workspace/app")
    yaml(box, """# what runs here
services:
  - name: both
    cmd: echo of the file
  - name: file
    cmd: [sh, -c, "echo $X from $(pwd); sleep 6003"]
    env: {X: "1"}
    restart: on-failure
""")
    # Declared while it is up: known, and started by hand.
    assert service(box, "file")["status"] == "stopped" and services(box)["problem"] is None
    act(box, "file", "start")
    assert service(box, "file")["status"] == "running"
    until(lambda: "1 from /home/sandbox/workspace/app" in logs(box, "file"), 5)
    box.stop()
    box.start()
    assert service(box, "file")["status"] == service(box, "both")["status"] == "running"
    until(lambda: "of the row" in logs(box, "both"), 5)
    assert "of the file" not in logs(box, "both")


def test_the_file_may_lie_where_commands_begin(make_sandbox):
    box = make_sandbox()
    text = "printf 'services:\\n- {name: %s, cmd: sleep 6005}\\n' > "
    box.exec(text % "above" + "sandbox.yaml")
    assert [s["name"] for s in services(box)["services"]] == ["above"]
    box.stop()
    box.start()
    becomes(box, "above", "running")
    box.exec(text % "app" + "app/sandbox.yaml")
    assert "app" in [s["name"] for s in services(box)["services"]]
    box.stop()
    box.start()
    becomes(box, "app", "running")
    assert [s["name"] for s in services(box)["services"]] == ["app"]


@pytest.mark.parametrize("text, word", [
    ("services:\n  - name: a\n    cmd: x\n    bogus: 1\n", "services.0.bogus: unknown field (line 4)"),
    ("services:\n- name: a\n  cmd: x\n- name: A\n  cmd: x\n", "(line 4)"),
    ("services:\n- name: a\n  cmd: x\n- name: a\n  cmd: x\n", "services.1.name: a is there twice (line 4)"),
    ("services:\n- name: a\n  cmd: x\n  env: {SANDBOXED_A: b}\n", "(line 4)"),
    ("services:\n- name: a\n", "services.0.cmd: "),
    ("service: []\n", "service: unknown field (line 1)"),
    ("services: 5\n", "services: "),
    ("- a\n", "(line 1)"),
    ("services:\n- &x {name: a, cmd: x}\n- *x\n", "anchors are not supported (line 2)"),
    ("services:\n- !!map {name: a, cmd: x}\n", "tags are not supported (line 2)"),
    ("services: [\n", "(line "),
    ("\n\n\tservices: x\n", "(line 3)"),
    ("services:\n- name: a\n  cmd: x\n  name: b\n", "the key is there twice (line 4)"),
    (b"services: \xff\n", "(line 1)"),
    (b"a: b\n---\nc: d\n", "one document is enough"),
    ("services:\n" + "".join(f"- {{name: s{i}, cmd: x}}\n" for i in range(17)), "more than 16"),
    ("x" * 70000, "sandbox.yaml"),
    ("[" * 5000, "nested too deep"),
], ids=lambda x: None)
def test_a_wrong_file_is_named_and_changes_nothing(box, text, word):
    yaml(box, text)
    seen = services(box)
    assert word in seen["problem"] and "sandbox.yaml" in seen["problem"]
    assert seen["services"] == [], "half of a wrong file is not used either"


def test_a_hostile_file_does_not_keep_the_sandbox_from_starting(make_sandbox):
    box = make_sandbox(services=[{"name": "row", "cmd": "sleep 6004", "cwd": "/tmp"}])
    box.exec("mkdir -p ~/workspace/app; cd ~/workspace/app; mkfifo sandbox.yaml")
    for make in ("", "rm sandbox.yaml; ln -s /etc/passwd sandbox.yaml",
                 "rm sandbox.yaml; mkdir sandbox.yaml", "rmdir sandbox.yaml; ln -s sandbox.yaml sandbox.yaml",
                 "rm sandbox.yaml; head -c 10000000 /dev/zero > sandbox.yaml",
                 "rm sandbox.yaml; printf 'services:\\n- {name: a, cmd: x, bogus: 1}\\n' > sandbox.yaml"):
        box.exec("cd ~/workspace/app; " + (make or ":"))
        assert services(box)["problem"], make
        box.stop()
        box.start()
        assert box.exec("echo up")["stdout"] == "up\n"
        assert [s["name"] for s in services(box)["services"]] == ["row"]
        becomes(box, "row", "running")


# --- kept running ---


def test_back_off_grows_says_when_and_does_not_give_up(make_sandbox):
    box = make_sandbox(services=[
        {"name": "crash", "cmd": "echo try; exit 9", "cwd": "/tmp"},
        {"name": "fast", "cmd": ["true"], "cwd": "/tmp"},
        {"name": "fine", "cmd": "echo ok", "cwd": "/tmp", "restart": "on-failure"},
        {"name": "nowhere", "cmd": "x", "cwd": "/tmp/not-there"},
        {"name": "nothing", "cmd": ["/no/such"], "cwd": "/tmp"},
    ])
    crash = until(lambda: (s := service(box, "crash"))["restarts"] >= 3 and s, 15, "tried again")
    assert crash["last_exit_code"] == 9
    assert becomes(box, "fine", "ended")["last_exit_code"] == 0
    until(lambda: service(box, "fast")["restarts"] >= 3, 15, "the end right after the start counts")
    for name, word in (("nowhere", "no such directory"), ("nothing", "not found")):
        s = becomes(box, name, "backing_off")
        assert word in s["problem"] and 0 <= s["next_start_ms"] <= 30000
    waits = set()
    until(lambda: waits.add(service(box, "crash").get("next_start_ms", 0)) or max(waits) > 1500, 20,
          "it grows")
    box.exec("mkdir /tmp/not-there")
    until(lambda: service(box, "nowhere")["last_exit_code"] == 127, 40, "tried again, and started")
    assert service(box, "nowhere")["problem"] is None
    act(box, "crash", "start")
    until(lambda: 0 < service(box, "crash").get("next_start_ms", 0) <= 500, 10, "begun anew")


def test_a_killed_one_comes_back_quickly(box):
    box.exec("sleep 6005", service="victim")
    pid = processes(box, "victim")[0]["pid"]
    assert box.exec("kill", "-9", str(pid))["exit_code"] == 0
    again = until(lambda: (p := processes(box, "victim")) and p[0]["pid"] != pid and p, 5, "back")
    assert len(again) == 1 and service(box, "victim")["restarts"] == 1
    assert service(box, "victim")["last_exit_code"] == 137


# --- by hand ---


@pytest.mark.quick
def test_stop_start_restart(make_sandbox):
    box = make_sandbox(services=[{"name": "web", "cmd": SERVER.format(3200), "cwd": "/tmp",
                                  "port": 3200}])
    until(lambda: service(box, "web")["listening"], 10)
    act(box, "web", "stop")
    assert service(box, "web")["status"] == "stopped"
    assert instances(box, "^python3 .*http.server 3200") == "0", "it has ended when the answer comes"
    act(box, "web", "stop")
    time.sleep(1) # that nothing starts it again has no event to wait for; back-off begins at 0.5 s
    assert service(box, "web")["status"] == "stopped" and processes(box, "web") == []
    act(box, "web", "start")
    until(lambda: service(box, "web")["listening"], 10)
    first = processes(box, "web")[0]["id"]
    act(box, "web", "start")
    assert processes(box, "web")[0]["id"] == first
    for _ in range(3): # the port of the old one is free when the new one wants it
        act(box, "web", "restart")
        assert service(box, "web")["status"] == "running"
        until(lambda: service(box, "web")["listening"], 10)
    # That it listens may be the old one's news yet.
    until(lambda: instances(box, "^python3 .*http.server 3200") == "1", 10, "one instance")
    assert service(box, "web")["restarts"] == 0
    assert "already in use" not in logs(box, "web")
    for what in ("start", "stop", "restart"):
        act(box, "nobody", what, expect=404)
    logs(box, "nobody", expect=404)
    act(box, "web", "stop")
    box.stop()
    act(box, "web", "stop")
    assert box.status == "stopped", "stopping one wakes nobody"
    act(box, "web", "start")
    assert box.status == "running"
    until(lambda: service(box, "web")["listening"], 10)
    assert instances(box, "^python3 .*http.server 3200") == "1"


def test_stopped_by_hand_it_stays_stopped_until_it_is_started(make_daemon):
    """Over sleep, also when the stop came while it slept, and over the daemon's end."""
    d = make_daemon()
    box = Sandbox.create(d, services=[{"name": n, "cmd": "sleep 6020", "cwd": "/tmp"}
                                      for n in ("row", "other")])
    box.exec("mkdir -p ~/workspace/app")
    yaml(box, "services:\n- {name: file, cmd: sleep 6021, cwd: /tmp}\n")
    box.exec("sleep 6022", service="late")
    act(box, "file", "start")

    def states():
        return {s["name"]: s["status"] for s in services(box)["services"]}

    def run(count): # a shell takes a moment to become what it runs
        until(lambda: instances(box, "^sleep 602") == str(count), 10, f"{count} run")
    stopped = {"row": "stopped", "other": "running", "late": "stopped", "file": "stopped"}
    for name in ("row", "file", "late"):
        act(box, name, "stop")
    d.kill9() # the moment it was answered
    d.start()
    until(lambda: states() == stopped, 10, "stopped after a restart")
    run(1)
    box.stop()
    act(box, "other", "stop")
    act(box, "late", "start") # wakes it
    assert states() == stopped | {"other": "stopped", "late": "running"}
    run(1)
    box.exec("sleep 6023", service="row") # told anew to run
    for name in ("other", "file"):
        act(box, name, "restart")
    box.stop()
    box.start()
    assert set(states().values()) == {"running"}
    run(4)


def remove(box, name, expect=204):
    return box.client.delete(f"{box.v1}/services/{name}", expect=expect)


@pytest.mark.quick
def test_removed_it_does_not_come_back(make_daemon):
    """While it runs, asleep, frozen and failing; not at a wake, nor with another daemon."""
    d = make_daemon()
    box = Sandbox.create(d, services=[{"name": n, "cmd": "exec sleep 6030", "cwd": "/tmp"}
                                      for n in ("stays", "runs", "asleep", "frozen", "stopped")]
                         + [{"name": "fails", "cmd": ["/no/such"], "cwd": "/tmp"}])

    def names():
        return [s["name"] for s in services(box)["services"]]
    until(lambda: instances(box, "^sleep 6030") == "5", 10, "all run")
    remove(box, "runs")
    assert instances(box, "^sleep 6030") == "4", "it has ended when the answer comes"
    act(box, "stopped", "stop")
    for name in ("stopped", "fails"):
        remove(box, name)
    assert names() == ["stays", "asleep", "frozen"]
    assert [s["name"] for s in box.get()["services"]] == names()
    for name in ("runs", "nobody", "a" * 40):
        assert remove(box, name, expect=404).json()["error"]["code"] == "not_found"
        act(box, name, "start", expect=404)
    d.kill9() # the moment it was answered
    d.start()
    assert names() == ["stays", "asleep", "frozen"]
    until(lambda: instances(box, "^sleep 6030") == "3", 10, "those that are left")
    box.client.post(box.v1 + "/pause", expect=200)
    remove(box, "frozen")
    assert box.status == "paused", "removing one wakes nobody"
    until(lambda: instances(box, "^sleep 6030") == "2", 10, "its end came with the thaw")
    box.stop()
    remove(box, "asleep")
    remove(box, "asleep", expect=404)
    assert box.status == "stopped" and names() == ["stays"]
    box.start()
    until(lambda: instances(box, "^sleep 6030") == "1", 10, "the one that is left")
    d.restart()
    assert names() == ["stays"] and instances(box, "^sleep 6030") == "1"
    # The name is free again, and carries no mark of the one before.
    box.exec("exec sleep 6031", service="stopped")
    box.stop()
    box.start()
    becomes(box, "stopped", "running")
    until(lambda: instances(box, "^sleep 6031") == "1", 10, "the new one came back")


def test_one_of_the_file_is_removed_there(make_sandbox):
    box = make_sandbox(services=[{"name": "both", "cmd": "sleep 6032", "cwd": "/tmp"}])
    box.exec("mkdir -p ~/workspace/app")
    yaml(box, "services:\n- {name: file, cmd: exec sleep 6033, cwd: /tmp}\n- {name: both, cmd: x}\n")
    act(box, "file", "start")
    for name in ("file", "both"):
        error = remove(box, name, expect=409).json()["error"]
        assert error["code"] == "conflict" and "sandbox.yaml" in error["remedy"], error
        assert service(box, name)["status"] == "running"
    yaml(box, "services: []\n")
    remove(box, "file")
    assert instances(box, "^sleep 6033") == "0"
    remove(box, "both")
    assert services(box)["services"] == []


def test_removing_and_declaring_at_once(box):
    for _ in range(3):
        box.exec("exec sleep 6034", service="brief")
        r = together(*[lambda: box.client.delete(box.v1 + "/services/brief").status for _ in range(4)])
        assert sorted(r)[0] == 204 and set(r) <= {204, 404}, r
        assert "brief" not in [s["name"] for s in services(box)["services"]]
        assert instances(box, "^sleep 6034") == "0"


def test_one_that_resists_its_end_is_ended(box):
    box.exec("trap '' TERM; echo up; while :; do sleep 0.1; done", service="stubborn")
    until(lambda: "up" in logs(box, "stubborn"), 5)
    act(box, "stubborn", "stop")
    assert processes(box, "stubborn") == [] and service(box, "stubborn")["status"] == "stopped"


def test_hands_on_one_service_at_once_leave_one_instance(box):
    box.exec("sleep 6006", service="hands")
    together(*[lambda w=w: act(box, "hands", w) for w in ("restart", "start", "restart", "start")])
    until(lambda: len(processes(box, "hands")) == 1 and instances(box, "^sleep 6006") == "1", 10,
          "one instance")
    assert service(box, "hands")["status"] == "running"


# --- logs ---


def test_logs_go_on_over_restarts_with_times(make_sandbox):
    box = make_sandbox()
    box.exec("n=$(cat /tmp/n 2>/dev/null || echo 0); echo $((n + 1)) > /tmp/n; "
             "[ $n -ge 2 ] && exec sleep 6020; echo out $$; echo err >&2; printf tail; exit 1",
             service="talker")
    # Two streams: which of them is read first is nobody's promise.
    text = until(lambda: (t := logs(box, "talker")).count("tail") >= 2 and t.count("err") >= 2 and t, 15, "two rounds")
    lines = text.rstrip("\n").split("\n")
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (out \d+|err|tail)$", x)
               for x in lines), text
    assert sorted(x.split()[0] for x in lines) == [x.split()[0] for x in lines], "in order"
    pids = {x.split()[2] for x in lines if " out " in x}
    assert len(pids) == 2
    assert logs(box, "talker", "?tail=1").rstrip("\n") == lines[-1]
    assert logs(box, "talker", "?tail=4").rstrip("\n").split("\n") == lines[-4:]
    assert logs(box, "talker", "?tail=1000") == text
    for n in (1, 4, 1000): # as events, too
        url = f"{box.v1}/services/talker/logs?tail={n}"
        events = box.client.get(url, headers={"Accept": "application/x-ndjson"}, expect=200).text
        data = "\n".join(json.loads(e)["data"].rstrip("\n") for e in events.splitlines())
        assert data.split("\n") == [x.split(" ", 1)[1] for x in lines[-n:]]
    for wrong in ("?tail=0", "?tail=-1", "?tail=x", "?bogus=1"):
        logs(box, "talker", wrong, expect=400)


@pytest.mark.quick
def test_follow_sees_old_new_and_the_next_process(make_sandbox):
    box = make_sandbox()
    box.exec("rm -f /tmp/go; echo first; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo more; exit 1",
             service="news")
    until(lambda: "first" in logs(box, "news"), 5)
    for query in ("?follow=true", "?follow=true&tail=1", "?follow=true&tail=50"):
        with box.client.stream("GET", f"{box.v1}/services/news/logs{query}") as s:
            lines = s.lines()
            words = []
            while "more" not in words or words[-1] != "first":
                words.append(next(lines).split(" ", 1)[1])
                if words[-1] == "first" and "more" not in words:
                    box.exec("touch /tmp/go")
            at = words.index("more")
            assert words[at - 1:at + 2] == ["first", "more", "first"], (query, words)
    with box.client.stream("GET", f"{box.v1}/services/news/logs?follow=true",
                           headers={"Accept": "text/event-stream"}) as s:
        name, data = next(s.sse())
        assert name == "stdout" and data["data"].startswith("first\n") and data["time"].endswith("Z")


def test_logs_of_one_who_writes_only_newlines_are_bounded(box):
    box.exec("yes '' | head -c 3000000; echo end; sleep 6007", service="newlines")
    until(lambda: logs(box, "newlines", "?tail=1").endswith(" end\n"), 30)
    assert logs(box, "newlines", "?tail=3").count("\n") == 3


def test_records_of_a_crashing_service_are_bounded(make_sandbox):
    box = make_sandbox()
    for i in range(14):
        box.exec(f"echo round {i}", service="again")
    until(lambda: len([p for p in box.client.get(box.v1 + "/processes").json()["processes"]
                       if p["service"] == "again"]) <= 12, 10, "bounded")


# --- commands that become services ---


@pytest.mark.quick
def test_exec_service_true_and_by_name(make_sandbox):
    box = make_sandbox()
    r = box.exec("python3", "-m", "http.server", "3300", service=True)
    assert r["service"] == "python3" and r["pid"] > 1
    until(lambda: service(box, "python3")["status"] == "running", 5)
    assert r["process"] == service(box, "python3")["process"]
    r = box.exec("/usr/bin/sleep 6008", service=True)
    assert r["service"] == "sleep"
    r = box.exec("echo env $X; pwd; sleep 6009", service="named", env={"X": "kept"}, cwd="/tmp")
    assert r["service"] == "named"
    until(lambda: "env kept" in logs(box, "named") and "/tmp" in logs(box, "named"), 5)
    # again: in the place of the one of that name
    box.exec("sleep 6010", service="named")
    assert instances(box, "^sleep 6009") == "0"
    until(lambda: instances(box, "^sleep 6010") == "1", 5, "the new one") # a shell yet
    assert len(processes(box, "named")) == 1
    # one that cannot be started does not take its place
    e = box.exec("/no/such", "x", service="named", expect=400)
    until(lambda: instances(box, "^sleep 6010") == "1", 10, "the old one goes on")
    for wrong in ("", "A", "x y", "-", "a" * 33):
        box.exec("true", service=wrong, expect=400)
    for wrong in (1, [], {}):
        box.exec("true", service=wrong, expect=400)
    for wrong in ({"stdin": "x"}, {"timeout_ms": 1000}):
        assert "does not go with service" in str(box.exec("true", service=True, expect=400, **wrong))
    assert "stdout" in box.exec("true", service=False)
    box.stop()
    box.start()
    for name in ("python3", "sleep", "named"):
        becomes(box, name, "running")
    until(lambda: instances(box, "^sleep 6010") == "1", 5, "one of them")


def test_more_than_sixteen_are_refused_and_nothing_is_left_running(make_sandbox):
    box = make_sandbox()
    for i in range(16):
        box.exec("sleep 6011", service=f"s{i}")
    box.exec("sleep 6012", service="s16", expect=409) # not 503: waiting does not help
    r = box.client.post(box.v1 + "/exec", {"cmd": "sleep 6012", "service": "s16"}, expect=409)
    error = r.json()["error"]
    assert "16" in error["message"] and error["remedy"] and not error["retryable"]
    assert instances(box, "^sleep 6012") == "0"
    box.exec("sleep 6013", service="s3") # replacing one is fine


def test_declaring_at_once_loses_none(make_sandbox):
    box = make_sandbox()
    together(*[lambda i=i: box.exec("sleep 6014", service=f"n{i}") for i in range(8)])
    assert sorted(s["name"] for s in services(box)["services"]) == [f"n{i}" for i in range(8)]
    box.stop()
    assert len(services(box)["services"]) == 8, "all of them are in the row"


def leave(box, *cmd, until_says=None, **fields):
    """Runs a command, streamed, and goes away once it has said something."""
    with box.exec_stream(*cmd, **fields) as s:
        events = s.sse()
        assert next(events)[0] == "started"
        if until_says:
            while until_says not in next(events)[1].get("data", ""):
                pass


@pytest.mark.quick
def test_a_listening_command_whose_client_leaves_becomes_a_service(make_sandbox):
    box = make_sandbox(ports=[3400])
    leave(box, "cd /tmp && exec python3 -um http.server 3400 --bind 127.0.0.1", until_says="Serving",
          env={"MARK": "kept"})
    kept = becomes(box, "python3", "running") # the shell line's first program
    assert "http.server 3400" in str(kept["cmd"])
    leave(box, "python3", "-um", "http.server", "3401", until_says="Serving", cwd="/tmp")
    leave(box, "python3", "-um", "http.server", "3402", until_says="Serving", cwd="/tmp")
    becomes(box, "python3-2", "running")
    becomes(box, "python3-3", "running")
    for port in (3400, 3401, 3402):
        assert instances(box, f"^python3 .*http.server {port}") == "1"
    env = box.exec("tr '\\0' '\\n' < /proc/$(pgrep -f '^python3 .*http.server 3400')/environ")["stdout"]
    assert "MARK=kept" in env
    assert "Serving" in logs(box, "python3-3"), "what it wrote before counts"
    box.stop()
    box.start()
    for port in (3400, 3401, 3402):
        until(lambda: instances(box, f"^python3 .*http.server {port}") == "1", 10, f"{port} is back")
    env = box.exec("tr '\\0' '\\n' < /proc/$(pgrep -f '^python3 .*http.server 3400')/environ")["stdout"]
    assert "MARK=kept" in env


@pytest.mark.quick
def test_any_other_command_ends_with_its_client(make_sandbox):
    box = make_sandbox()
    leave(box, "echo on; sleep 6015", until_says="on")
    until(lambda: instances(box, "^sleep 6015") == "0", 10, "ended")
    assert services(box)["services"] == []
    assert box.client.get(box.v1 + "/processes").json()["processes"] == []


def test_a_listening_command_that_loses_its_daemon(make_daemon):
    """Told to end, the daemon keeps it as when its client leaves. Killed, it cannot: what is left
    without a record is ended, for nobody could see it or ever end it."""
    d = make_daemon(SANDBOXD_SHUTDOWN_GRACE="1s")
    box = Sandbox.create(d)

    def serve(port):
        stream = box.exec_stream("python3", "-um", "http.server", str(port), cwd="/tmp")
        events = stream.sse()
        while "Serving" not in str(next(events)[1].get("data")):
            pass
        return stream
    with serve(3411):
        d.restart()
    kept = becomes(box, "python3", "running")
    assert "3411" in str(kept["cmd"])
    with serve(3412):
        d.restart(hard=True)
    until(lambda: instances(box, "^python3 .*http.server 3412") == "0", 10, "ended")
    assert [s["name"] for s in services(box)["services"]] == ["python3"]
    assert len(box.client.get(box.v1 + "/processes", expect=200).json()["processes"]) == 1
    assert processes(box, "python3")[0]["id"] == kept["process"], "the one with a record goes on"
