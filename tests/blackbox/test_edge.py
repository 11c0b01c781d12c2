"""The edge before real apps: routing, streaming, limits, and sandboxes that come and go."""
import hashlib
import http.client
import json
import os
import threading
import time

import pytest

import preview_app
from edge import Edge, host_of
from preview_app import service
from sandboxd import SLOW, Sandbox, together, until


@pytest.fixture
def app(make_sandbox):
    """A sandbox whose app listens on all addresses, on port 3000."""
    return make_sandbox(ports=[3000], services=[service(3000)])


@pytest.mark.quick
def test_serves_and_keeps_alive(app):
    e = Edge(app)
    boot = e.get().expect(200).text
    assert boot.startswith("app 3000 boot ")
    for _ in range(20):
        assert e.get().text == boot
    seen = e.get("/seen/a?b=c", headers={"X-Mine": "1"}).json()
    headers = {k.lower(): v for k, v in seen["headers"]}
    assert seen["target"] == "/seen/a?b=c" and headers["host"] == e.host
    assert headers["x-mine"] == "1" and headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "http" and headers["x-forwarded-host"] == e.host


@pytest.mark.parametrize("form", ["s-{id}-3000.preview.localhost", "S-{ID}-3000.Preview.LOCALHOST",
                                  "3000-{id}.localhost", "s-{id}-3000.preview.localhost:8080"])
def test_names(app, form):
    host = form.format(id=app.id.lower(), ID=app.id)
    assert Edge(app, host=host).get().expect(200).text.startswith("app 3000")


def test_e2b_headers(app):
    headers = {"E2b-Sandbox-Id": app.id.lower(), "E2b-Sandbox-Port": "3000"}
    assert Edge(app, host="any.example", headers=headers).get().expect(200)
    wrong = Edge(app, host="any.example", headers=headers | {"E2b-Sandbox-Port": "0"})
    assert "Host" in wrong.get(expect=400).text


def test_never_the_api(app):
    for host in ("localhost", f"127.0.0.1:{app.daemon.port}", "api.preview.localhost", "api.localhost"):
        for path in ("/healthz", "/v1/sandboxes", "/sandboxes", "/metrics"):
            assert "no such preview" in Edge(app, host=host).get(path, expect=404).text


def test_an_app_on_loopback_only(make_sandbox):
    s = make_sandbox(ports=[3000], services=[service(3000, "127.0.0.1")])
    e = Edge(s)
    boot = e.get().expect(200).text
    assert all(r.text == boot for r in together(*[e.get] * 20))
    data = os.urandom(5 << 20)
    got = e.post("/sum", raw=data, expect=200).json()
    assert got["sha256"] == hashlib.sha256(data).hexdigest()


def test_ports_nobody_declared(make_daemon):
    d = make_daemon(SANDBOXD_PORT_WAIT="1s")
    s = Sandbox.create(d, ports=[3000], services=[service(3000), service(4321)])
    for port in 3000, 4321: # an app may take longer to begin than a request is held here
        until(lambda e=Edge(s, port): e.get().status == 200, 20, f"port {port}")
    assert Edge(s, 4321).get().expect(200).text.startswith("app 4321")
    r = Edge(s, 4999).get(expect=502)
    assert "3000" in r.text and "4321" in r.text and "4999" in r.text
    replies = together(*[Edge(s, port).get for port in (1, 22, 2375, 9090, 65535)])
    assert {r.status for r in replies} == {502}


def test_each_situation_says_so(app):
    gone = Edge(app, host=host_of(app).replace(app.id.lower(), "01arz3ndektsv4rrffq69g5fav"))
    assert gone.get(expect=404).text.startswith("There is no such preview:")
    page = gone.get(headers={"Accept": "text/html,*/*"}, expect=404)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Cache-Control"] == "no-store"
    error = gone.get(headers={"Accept": "application/json"}, expect=404).json()["error"]
    assert error["code"] == "not_found" and error["retryable"] is False


@pytest.mark.parametrize("how", ["length", "chunked"])
def test_large_bodies_in_constant_memory(app, how):
    e, total = Edge(app), 64 << 20
    block = os.urandom(1 << 20)
    digest = hashlib.sha256(block * 64).hexdigest()
    e.get().expect(200)
    before = app.daemon.rss_kib()
    if how == "length":
        got = e.post("/sum", raw=block * 64, expect=200).json()
    else:
        got = e.post("/sum", raw=iter([block] * 64), expect=200).json()
    assert got["bytes"] == total and got["sha256"] == digest
    assert app.daemon.rss_kib() - before < app.daemon.rss_slack(16 * 1024)


def test_events_are_not_held_back(app):
    e = Edge(app)
    with e.stream("/turns?n=4") as s:
        events = (line for line in s.lines() if line)
        for n in range(4):
            assert next(events) == f"data: {n}" # the next is not sent before this one was seen
            e.get("/turn", expect=200)
        assert next(events, None) is None


def test_websocket(app):
    with Edge(app).upgrade() as ws:
        assert ws.status == 101 and ws.headers["upgrade"] == "websocket"
        for n in (1, 1000, 200_000):
            data = os.urandom(n)
            got = {}
            t = threading.Thread(target=lambda: got.update(data=ws.recv(n)))
            t.start()
            ws.send(data)
            t.join(30 * SLOW)
            assert got["data"] == data


def test_expect_continue(app):
    e = Edge(app)
    with e.raw() as r:
        r.send(e.head("POST", "/sum", "Expect: 100-continue", "Content-Length: 5"))
        assert r.sock.recv(1000).startswith(b"HTTP/1.1 100 ")
        r.send(b"hello")
        assert r.reply().expect(200).json()["bytes"] == 5


def test_half_closed_client_is_served(app):
    e = Edge(app)
    with e.raw() as r:
        r.send(e.head("GET", "/"))
        r.half_close()
        assert r.reply().expect(200).text.startswith("app 3000")
        assert r.closed()


def test_silent_clients_hold_nothing_up(app):
    e = Edge(app)
    raws = [e.raw() for _ in range(50)]
    try:
        for n, r in enumerate(raws):
            r.send(e.head("POST", "/sum", "Content-Length: 1000")[:40 + n * 5])
        assert e.get().expect(200)
    finally:
        for r in raws:
            r.close()


def test_stop_ends_what_is_open(app):
    with Edge(app).upgrade() as ws:
        assert ws.status == 101
        app.stop()
        assert ws.closed()


def test_an_open_stream_keeps_it_awake(make_daemon):
    d = make_daemon(SANDBOXD_IDLE_TIMEOUT="1s", SANDBOXD_REAP_INTERVAL="200ms")
    s = Sandbox.create(d, ports=[3000], services=[service(3000)])
    with Edge(s).upgrade() as ws:
        assert ws.status == 101
        end = time.monotonic() + 3
        while time.monotonic() < end:
            assert s.status == "running"
            time.sleep(0.2)
        ws.send(b"still there")
        assert ws.recv(11) == b"still there"
    until(lambda: s.status == "stopped", 15, "asleep after its stream ended")


def test_a_hostile_app_disturbs_nobody(make_sandbox):
    flood = ("import socket\ns=socket.create_server(('',3000))\n"
             "while True:\n c=s.accept()[0]\n c.recv(4096)\n"
             " try:\n  c.sendall(b'HTTP/1.1 200 OK\\r\\n')\n"
             "  while True: c.sendall(b'X-A: b\\r\\n'*100)\n"
             " except OSError: pass\n c.close()\n")
    bad = make_sandbox(ports=[3000], services=[{"name": "bad", "cmd": ["python3", "-c", flood],
                                                "port": 3000}])
    good = make_sandbox(ports=[3000], services=[service(3000)])
    e, b = Edge(good), Edge(bad)
    e.get().expect(200)
    for _ in range(20):
        assert b.get().status == 502
        assert e.get().status == 200


def test_counts_and_logs_what_became_of_requests(make_daemon):
    d = make_daemon(SANDBOXD_EDGE_LOG="true")
    s = Sandbox.create(d, ports=[3000], services=[service(3000)])
    s.stop()
    e = Edge(s)
    e.get("/seen/a?code=secret&token=hush", headers={"X-Key": "private"}).expect(200)
    e.post("/sum?x=1", raw=b"12345", expect=200)
    Edge(s, host="nobody.localhost").get("/" + "n" * 1000, expect=404)

    def lines():
        found = [json.loads(line) for line in d.log().splitlines() if '"edge.request"' in line]
        return found if len(found) >= 3 else None

    first, second, third = until(lines, 10, "three lines")
    assert first["outcome"] == "served" and first["status"] == 200 and first["method"] == "GET"
    assert first["host"] == e.host and first["path"] == "/seen/a"
    assert first["held_in"] in ("waiting", "workspace", "engine", "agent", "port")
    assert first["took_ms"] >= first["held_ms"] > 0
    assert (second["method"], second["path"], second["held_in"]) == ("POST", "/sum", "")
    assert second["in_bytes"] > 5 and second["out_bytes"] > 64
    assert third["outcome"] == "unknown" and third["status"] == 404 and len(third["path"]) == 255
    for secret in ("secret", "hush", "private"):
        assert secret not in d.log()
    text = d.get("/metrics").text
    for line in ('requests_total{outcome="served"} 2', 'requests_total{outcome="unknown"} 1',
                 "held 0", "upgrades_total 0"):
        assert f"sandboxd_edge_{line}\n" in text, text


@pytest.mark.drill
def test_an_address_that_changes_hands(make_daemon):
    """Clients hammer A while it stops and B starts, over and over: never a byte of B (T-60)."""
    d = make_daemon()
    a = Sandbox.create(d, ports=[3000], services=[service(3000)])
    code = preview_app.CODE.replace("app %d", "other %d")
    b = Sandbox.create(d, ports=[3000], services=[
        {"name": "other", "port": 3000, "cmd": ["python3", "-c", code, "3000", "0.0.0.0"]}])
    assert Edge(a).get().text.startswith("app ") and Edge(b).get().text.startswith("other ")
    wrong, served, stop = [], [], threading.Event()

    def hammer():
        e = Edge(a)
        while not stop.is_set():
            try:
                r = e.get()
            except (OSError, http.client.HTTPException): # cut with its sandbox
                continue
            good = r.text.startswith("app ") if r.status == 200 else r.status in (502, 503)
            (served if good else wrong).append(r)

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for t in threads:
        t.start()
    try:
        rounds = 0
        while rounds < 8 or len(served) <= 20: # on a busy machine a round serves few
            rounds += 1
            together(a.stop, b.stop) # the addresses change hands when the other comes up first
            b.start()
            a.start()
    finally:
        stop.set()
        for t in threads:
            t.join(90 * SLOW)
    assert not wrong
