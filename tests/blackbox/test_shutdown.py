"""TERM: what is under way ends or is told, sandboxes stay (F-23)."""

import http.client
import signal
import socket
import threading
import time

import pytest

from sandboxd import PATIENCE, SLOW, Raw, Sandbox, together, until


@pytest.fixture
def own(make_daemon):
    return make_daemon(SANDBOXD_SHUTDOWN_GRACE="3s")


def alive(box, text):
    return text in box.exec("ps -eo args")["stdout"]


@pytest.mark.quick
def test_term_leaves_sandboxes_running(own, engine):
    box = Sandbox.create(own)
    pid = box.exec("sleep", "4000.1", detach=True)["pid"]
    container = box.container
    before = engine.inspect(container)["State"]
    began = time.monotonic()
    assert own.stop() == 0
    assert time.monotonic() - began < 3 * PATIENCE, "nothing was under way: no reason to wait"
    after = engine.inspect(container)["State"]
    assert (after["Pid"], after["StartedAt"], after["Running"]) == (
        before["Pid"], before["StartedAt"], True)
    with pytest.raises(OSError):
        socket.create_connection(own.address, timeout=1)
    own.start()
    assert box.status == "running" and box.container == container
    assert box.exec(f"ps -o args= -p {pid}")["stdout"].strip() == "sleep 4000.1"


@pytest.mark.concurrent
def test_what_is_under_way_is_answered(make_daemon):
    """A short command ends with its own reply; a long one with an error, not with silence."""
    own = make_daemon(SANDBOXD_SHUTDOWN_GRACE="8s")
    box = Sandbox.create(own)
    replies = {}

    def call(name, cmd):
        replies[name] = own.client().post(f"/sandbox/{box.id}/exec", {"cmd": cmd})

    threads = [threading.Thread(target=call, args=a) for a in [
        ("short", "touch ~/short; until [ -e ~/go ]; do sleep 0.05; done; echo done"),
        ("long", "touch ~/long; sleep 4000.2")]]
    for t in threads:
        t.start()
    until(lambda: (box.workspace / "short").exists() and (box.workspace / "long").exists(), 10,
          "both run")
    began = time.monotonic()
    own.process.send_signal(signal.SIGTERM)
    own.expect_exit = True
    until(lambda: "server.stopping" in own.log(), what="it was heard")
    (box.workspace / "go").touch()
    assert own.process.wait(30 * SLOW) == 0
    assert time.monotonic() - began < 8 * PATIENCE
    for t in threads:
        t.join(10)
    assert replies["short"].status == 200 and replies["short"].json()["stdout"] == "done\n"
    assert replies["long"].status == 503, replies["long"]
    own.start()
    until(lambda: not alive(box, "4000.2"), 10, "the command that was cut is ended")


def test_streams_end_with_a_word(own):
    box = Sandbox.create(own)
    with box.exec_stream("sh", "-c", "echo up; sleep 4000.3") as s:
        events = s.sse()
        while next(events)[0] != "stdout":
            pass
        own.process.send_signal(signal.SIGTERM)
        own.expect_exit = True
        rest = list(events)
    assert rest and rest[-1][0] in ("error", "exit"), rest
    assert own.process.wait(30 * SLOW) == 0
    own.start()
    until(lambda: not alive(box, "4000.3"), 10, "its command is ended")


def test_new_requests_are_refused_while_it_drains(own):
    box = Sandbox.create(own)
    done = threading.Event()

    def long():
        try:
            own.client().post(f"/sandbox/{box.id}/exec", {"cmd": "touch ~/up; sleep 4000.4"})
        except (OSError, http.client.HTTPException): # cut in the middle of its answer
            pass
        finally:
            done.set()

    threading.Thread(target=long).start()
    until(lambda: (box.workspace / "up").exists(), 10, "it runs")
    with Raw(own.port, 10) as kept:
        kept.send("GET /healthz HTTP/1.1\nHost: localhost\n\n")
        assert kept.reply().status == 200
        own.process.send_signal(signal.SIGTERM)
        own.expect_exit = True

        def refused():
            """A new connection is not taken, or closed without a word."""
            try:
                with Raw(own.port, 2) as new:
                    new.send("GET /healthz HTTP/1.1\nHost: localhost\n\n")
                    return new.reply() is None
            except OSError:
                return True

        until(refused, 2, "no new connection is served")
        try:
            kept.send("GET /v1/sandboxes HTTP/1.1\nHost: localhost\n\n")
            reply = kept.reply()
        except OSError:
            reply = None
        assert reply is None or (reply.status == 503 and reply.code == "shutting_down"), reply
    assert own.process.wait(30 * SLOW) == 0
    assert done.wait(5 * PATIENCE)


def test_a_second_term_ends_it_at_once(make_daemon):
    d = make_daemon(SANDBOXD_SHUTDOWN_GRACE="60s")
    box = Sandbox.create(d)
    pid = box.exec("sleep", "4000.5", detach=True)["pid"]
    errors = []

    def long():
        try:
            d.client().post(f"/sandbox/{box.id}/exec", {"cmd": "touch ~/up; sleep 4000.6"})
        except Exception as e:  # whatever a cut connection looks like
            errors.append(e)

    t = threading.Thread(target=long)
    t.start()
    until(lambda: (box.workspace / "up").exists(), 10, "it runs")
    d.process.send_signal(signal.SIGTERM)
    d.expect_exit = True
    until(lambda: "server.stopping" in d.log(), 5, "the first one is heard")
    began = time.monotonic()
    d.process.send_signal(signal.SIGTERM)
    d.process.wait(10 * SLOW)
    assert time.monotonic() - began < 2 * PATIENCE
    t.join(10)
    d.start()
    assert box.exec(f"ps -o args= -p {pid}")["stdout"].strip() == "sleep 4000.5"
    until(lambda: not alive(box, "4000.6"), 10, "the command whose client is gone is ended")


def test_int_is_as_term_and_hup_loses_nothing(own):
    box = Sandbox.create(own)
    for _ in range(5):
        own.process.send_signal(signal.SIGHUP)
        assert box.status == "running"
    assert own.running()
    own.process.send_signal(signal.SIGINT)
    own.expect_exit = True
    assert own.process.wait(20 * SLOW) == 0
    own.start()
    assert box.status == "running"


@pytest.mark.concurrent
def test_term_under_load_loses_no_answered_request(own):
    """Every 2xx before the end is there afterwards."""
    box = Sandbox.create(own)
    written, stop = [], threading.Event()

    def writer(n):
        client = Sandbox(own, box.id)
        for i in range(10000):
            if stop.is_set():
                return
            try:
                reply = client.put_file(f"w{n}/{i}", f"{n}.{i}".encode(), expect=(200, 503))
            except OSError:
                return
            if reply.status != 200:
                return
            written.append((n, i))

    def end():
        until(lambda: len(written) > 50, 20, "some files")
        own.process.send_signal(signal.SIGTERM)
        own.expect_exit = True
        own.process.wait(30 * SLOW)
        stop.set()

    def guarded(n):
        try:
            writer(n)
        except http.client.HTTPException:
            pass

    together(*[lambda n=n: guarded(n) for n in range(6)], end)
    assert own.process.returncode == 0
    own.start()
    app = box.workspace / "workspace/app"
    for n, i in written:
        assert (app / f"w{n}/{i}").read_text() == f"{n}.{i}"
    assert not [p for p in app.rglob("*") if p.is_file() and not p.name.isdigit()
                and p.name != "README.txt"]


COUNTER = ["bash", "-c", "for i in $(seq 0 99999); do echo $i; read -t 0.01 x && break; done; exit 4"]


@pytest.mark.concurrent
def test_followers_do_not_hold_up_the_end(make_daemon):
    """What they follow goes on without them, and so do they, later: the grace is not theirs."""
    d = make_daemon(SANDBOXD_SHUTDOWN_GRACE="5m")
    box = Sandbox.create(d, services=[{"name": "busy", "cmd": "while :; do echo on; sleep 0.01; done"}])
    client, processes = box.client, f"{box.v1}/processes"
    counter = {"cmd": COUNTER, "stdin": True}
    p = processes + "/" + client.post(processes, counter, expect=201).json()["id"]
    client.post(processes, {"cmd": ["bash", "-c", "while :; do touch f$((i++ % 9)); sleep 0.01; done"]}, expect=201)
    sse, lines = {"Accept": "text/event-stream"}, {"Accept": "application/x-ndjson"}
    streams = [client.stream("GET", f"{p}/output?follow=true", headers=sse),
               client.stream("GET", f"{p}/output?follow=true", headers=lines),
               client.stream("POST", processes, counter, headers=sse),
               client.stream("GET", f"{box.v1}/services/busy/logs?follow=true", headers=sse),
               client.stream("GET", f"{box.v1}/files/watch?path=.", headers=sse)]
    plain = client.stream("GET", f"{p}/output?follow=true")
    last = {}

    def read(n):
        events = (e["type"] for e in streams[n].ndjson()) if n == 1 else (e for e, _ in streams[n].sse())
        try:
            for last[n] in events:
                pass
        except http.client.IncompleteRead: # after its last word
            pass

    def read_plain():
        with pytest.raises(http.client.IncompleteRead): # it is not whole, and that can be seen
            plain.read()

    def end():
        until(lambda: len(last) == len(streams), 20, "each follows something")
        d.expect_exit = True
        d.process.send_signal(signal.SIGTERM)
        assert d.process.wait(25 * SLOW) == 0, "long before the grace is over"

    together(*[lambda n=n: read(n) for n in range(len(streams))], read_plain, end)
    assert last == dict.fromkeys(range(len(streams)), "error")
    for s in [*streams, plain]:
        s.close()
    d.start()
    so_far = len(client.get(f"{p}/output", expect=200).body)
    until(lambda: len(client.get(f"{p}/output", expect=200).body) > so_far, 10, "it goes on")
    client.post(f"{p}/stdin", raw=b"stop\n", expect=200)
    until(lambda: client.get(p).json()["exit_code"] == 4, 10, "its end")
    told = client.get(f"{p}/output", expect=200).text.split("\n")[:-1]
    assert told == [str(i) for i in range(len(told))]


@pytest.mark.concurrent
def test_a_follower_that_reads_nothing_does_not_either(make_daemon):
    d = make_daemon(SANDBOXD_SHUTDOWN_GRACE="5m")
    box = Sandbox.create(d)
    cmd = ["sh", "-c", "head -c 900000 /dev/zero; touch ~/said; exec sleep 4000.7"]
    p = box.client.post(f"{box.v1}/processes", {"cmd": cmd}, expect=201).json()["id"]
    until((box.workspace / "said").exists, 10, "all is said")
    with Raw(d.port, 10) as idle:
        idle.send(f"GET {box.v1}/processes/{p}/output?follow=true HTTP/1.1\nHost: localhost\n\n")
        assert idle.sock.recv(1) == b"H", "its answer has begun"
        d.expect_exit = True
        d.process.send_signal(signal.SIGTERM)
        assert d.process.wait(25 * SLOW) == 0, "long before the grace is over"
    d.start()
    assert box.client.get(f"{box.v1}/processes/{p}").json()["status"] == "running"
    until(lambda: box.client.get(f"{box.v1}/processes/{p}/output").body == bytes(900000), 10, "all of it")
