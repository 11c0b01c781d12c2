"""First requests to sandboxes that sleep: whatever their kind, the app itself answers."""
import concurrent.futures
import datetime
import hashlib
import os
import time

import pytest

from edge import Edge
from preview_app import service
from sandboxd import PATIENCE, SLOW, Sandbox, together, until

MIB = 1 << 20


@pytest.fixture(params=["0.0.0.0", "127.0.0.1"])
def app(request, make_sandbox):
    return make_sandbox(ports=[3000], services=[service(3000, request.param)])


def pause(s):
    s.client.post(s.v1 + "/pause", expect=200)


SLEEPS = {"stopped": lambda s: s.stop(), "paused": pause}


def get(s):
    assert Edge(s).get().expect(200).text.startswith("app 3000")


def post(s):
    data = os.urandom(64 * MIB)
    got = Edge(s).post("/sum", raw=data, expect=200).json()
    assert got["sha256"] == hashlib.sha256(data).hexdigest()


def post_chunked(s):
    data = os.urandom(MIB)
    got = Edge(s).post("/sum", raw=iter([data] * 8), expect=200).json()
    assert got["sha256"] == hashlib.sha256(data * 8).hexdigest()


def websocket(s):
    with Edge(s).upgrade() as ws:
        assert ws.status == 101
        ws.send(b"hello")
        assert ws.recv(5) == b"hello"


def events(s):
    with Edge(s).stream("/sse?n=2") as r:
        assert [line for line in r.lines() if line] == ["data: 0", "data: 1"]


def expect_continue(s):
    e = Edge(s)
    with e.raw(60) as r:
        r.send(e.head("POST", "/sum", "Expect: 100-continue", "Content-Length: 5"))
        assert r.sock.recv(1000).startswith(b"HTTP/1.1 100 ")
        r.send(b"hello")
        assert r.reply().expect(200).json()["bytes"] == 5


KINDS = {f.__name__: f for f in (get, post, post_chunked, websocket, events, expect_continue)}


@pytest.mark.parametrize("sleep", SLEEPS)
def test_every_kind_of_first_request(app, sleep):
    for kind in KINDS.values():
        SLEEPS[sleep](app)
        kind(app)
        assert app.status == "running"


def test_a_thaw_waits_for_no_port_as_a_start_does(make_daemon):
    """What ran before it was frozen still runs: what does not listen then will not by itself."""
    d = make_daemon(SANDBOXD_PORT_WAIT=f"{12 * SLOW:g}s")
    s = Sandbox.create(d, ports=[3000])
    Edge(s).get().expect(502) # at the end of the wait after its start
    for restart in False, True:
        pause(s)
        if restart:
            d.restart(hard=True)
        began = time.monotonic()
        Edge(s).get().expect(502)
        assert time.monotonic() - began < 9 * SLOW


@pytest.mark.concurrent
def test_a_hundred_of_all_kinds_are_one_start(make_sandbox):
    s = make_sandbox(ports=[3000], services=[service(3000)])
    before = s.daemon.log().count('"sandbox.started"')
    s.stop()
    kinds = [get, post_chunked, websocket, events, expect_continue] * 20
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        for f in [pool.submit(kind, s) for kind in kinds]:
            f.result()
    until(lambda: s.daemon.log().count('"sandbox.started"') > before, what="it is told")
    assert s.daemon.log().count('"sandbox.started"') == before + 1


@pytest.mark.drill
def test_five_hundred_clients(make_sandbox):
    s = make_sandbox(ports=[3000], services=[service(3000)])
    before = s.daemon.log().count('"sandbox.started"')
    s.stop()
    with concurrent.futures.ThreadPoolExecutor(500) as pool:
        for f in [pool.submit(get, s) for _ in range(500)]:
            f.result()
    until(lambda: s.daemon.log().count('"sandbox.started"') > before, what="it is told")
    assert s.daemon.log().count('"sandbox.started"') == before + 1


def test_in_the_moment_of_a_stop(make_sandbox):
    s = make_sandbox(ports=[3000], services=[service(3000)])
    e = Edge(s)
    e.get().expect(200)
    for n in range(10):
        def ask(n=n):
            time.sleep(n * 0.004) # somewhere within the stop
            return Edge(s).get()

        _, reply = together(s.stop, ask)
        assert reply.status == 200, reply
        e.get().expect(200)


def test_in_the_moment_of_a_freeze(make_sandbox):
    s = make_sandbox(ports=[3000], services=[service(3000)])
    Edge(s).get().expect(200)
    for n in range(10):
        def ask(n=n):
            time.sleep(n * 0.002) # somewhere within the freeze
            return Edge(s).get()

        _, reply = together(lambda: pause(s), ask)
        assert reply.status == 200, reply


def test_in_the_moment_of_a_purge(make_sandbox):
    for n in range(3):
        s = make_sandbox(ports=[3000], services=[service(3000)])
        Edge(s).get().expect(200)
        _, reply = together(s.purge, Edge(s).get)
        assert reply.status in (200, 404, 410, 502, 503), reply
        assert Edge(s).get().status == 404


def test_a_browser_sees_a_page_that_opens_the_app(make_daemon):
    d = make_daemon(SANDBOXD_WAKE_PAGE_AFTER="10ms")
    s = Sandbox.create(d, ports=[3000], services=[service(3000)])
    s.stop()
    e = Edge(s)
    browser = {"Sec-Fetch-Mode": "navigate", "Accept": "text/html"}
    page = e.get(headers=browser, expect=503)
    assert page.headers["Retry-After"] == "1" and "/.sandboxed/wake" in page.text
    assert page.headers["Cache-Control"] == "no-store"
    phases = []

    def ready():
        j = e.get("/.sandboxed/wake", expect=200).json()
        phases.append(j["phase"])
        return j["ready"]

    until(ready, 30, "ready")
    assert set(phases) <= {"waiting", "workspace", "engine", "agent", "port", "ready"}
    # Comes again, as the page does; a young sandbox that is slow to answer shows it once more.
    until(lambda: (r := e.get(headers=browser, expect=(200, 503))).status == 200 and r.text.startswith("app 3000"), 10,
          "the app")
    s.stop() # not a browser: no page
    assert e.get(headers={"Accept": "*/*"}, expect=200).text.startswith("app 3000")


def test_held_so_long_and_no_longer(make_daemon):
    d = make_daemon(SANDBOXD_WAKE_HOLD="300ms", SANDBOXD_PORT_WAIT="60s")
    s = Sandbox.create(d, ports=[3000]) # nothing will ever listen
    began = time.monotonic()
    r = Edge(s).get()
    assert r.status in (502, 503) and r.headers["Retry-After"]
    assert time.monotonic() - began < 5 * PATIENCE


def test_a_crashed_sandbox_starts_again(make_sandbox, engine):
    s = make_sandbox(ports=[3000], services=[service(3000)])
    first = Edge(s).get().expect(200).text
    engine.call("POST", f"/containers/{s.container}/kill", expect=204)
    until(lambda: s.status != "running", 10, "its end is noticed")
    assert Edge(s).get().expect(200).text != first


def test_an_address_may_wake_so_many(make_daemon):
    d = make_daemon(SANDBOXD_EDGE_WAKES="2")
    s = Sandbox.create(d, ports=[3000], services=[service(3000)])
    e = Edge(s, headers={"X-Forwarded-For": "203.0.113.7"})
    for _ in range(2):
        pause(s)
        e.get().expect(200)
    pause(s)
    r = e.get(expect=503)
    assert r.headers["X-Retry-After-Reason"] == "wakes_refused" and r.headers["Retry-After"]
    assert Edge(s, headers={"X-Forwarded-For": "203.0.113.8"}).get().expect(200)


SLOW_APP = r"""
import http.server, os, sys, time
class App(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def do_GET(self):
        well = os.path.exists("/home/sandbox/workspace/well")
        if self.path == "/hang": time.sleep(600)
        self.send_response(200 if well else 503)
        self.end_headers()
        self.wfile.write(b"well" if well else b"too early")
    do_POST = do_GET
http.server.ThreadingHTTPServer((sys.argv[2], int(sys.argv[1])), App).serve_forever()
"""


def slow_service(port, host, health="/health"):
    """Well as soon as there is a file."""
    return {"name": f"slow{port}", "port": port, "health_path": health,
            "cmd": ["python3", "-c", SLOW_APP, str(port), host]}


def services(s):
    return s.client.get(s.v1 + "/services", expect=200).json()["services"]


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_a_request_waits_until_the_service_is_healthy(make_sandbox, host):
    s = make_sandbox(ports=[3000], services=[slow_service(3000, host)])
    ill = "service slow3000, GET /health: it answered 503"

    def state():
        return services(s)[0]

    def why():
        return s.client.get(s.v1 + "/why", expect=200).json()["waits_for"]

    def get_well(): # once the app was seen to be ill
        until(lambda: state()["problem"] == ill, 20, "the look at it")
        assert state()["healthy"] is False and why() == ill
        assert Edge(s).get("/.sandboxed/wake", expect=200).json()["phase"] == "health"
        s.put_file("workspace/well", b"")

    for ask in (Edge(s).get, Edge(s).post): # after the create, after a wake
        reply, _ = together(ask, get_well)
        assert reply.expect(200).text == "well"
        assert state()["healthy"] is True and state()["problem"] is None and why() is None
        s.stop()
        assert state()["healthy"] is False
        (s.workspace / "workspace/well").unlink()


def test_one_that_fell_ill_is_not_cut_off_by_a_restart_of_the_daemon(make_daemon):
    """Well once, it serves whatever its health_path says later; the next daemon does not know that it was."""
    d = make_daemon(SANDBOXD_PORT_WAIT="1s")
    s = Sandbox.create(d, ports=[3000], services=[slow_service(3000, "0.0.0.0")])
    s.put_file("workspace/well", b"")
    until(lambda: services(s)[0]["healthy"], 20, "it is well")
    assert Edge(s).get(expect=200).text == "well"
    (s.workspace / "workspace/well").unlink()
    assert Edge(s).get(expect=503).text == "too early", "of the app"
    started = services(s)[0]["process"]
    at = s.client.get(f"{s.v1}/processes/{started}", expect=200).json()["started_at"]
    until(lambda: time.time() > datetime.datetime.fromisoformat(at).timestamp() + 1, 5, "its time to start is over")
    d.restart(hard=True)
    assert Edge(s).get(expect=503).text == "too early"
    assert services(s)[0]["healthy"] is False
    s.put_file("workspace/well", b"")
    until(lambda: services(s)[0]["healthy"], 20, "it is looked at")


def test_a_health_path_that_hangs(make_daemon):
    d = make_daemon(SANDBOXD_PORT_WAIT="1s")
    ill = Sandbox.create(d, ports=[3000, 3001],
                         services=[slow_service(3000, "0.0.0.0", "/hang"), service(3001)])
    well = Sandbox.create(d, ports=[3000], services=[slow_service(3000, "0.0.0.0")])
    well.put_file("workspace/well", b"")
    until(lambda: all(x["listening"] for x in services(ill) + services(well)), 20, "all are up")
    until(lambda: services(well)[0]["healthy"], 20, "it is well")
    held, other, third = together(Edge(ill).get, Edge(ill, 3001).get, Edge(well).get)
    assert held.status == 503 and held.headers["X-Retry-After-Reason"] == "unhealthy"
    assert held.headers["Retry-After"] and "slow3000, GET /hang" in held.text
    assert other.status == 200 and third.text == "well" # nobody else waits for it
