"""Previews through the real Traefik: its routers, the socket it learns them from, and every kind of
request on its way to an app (T-18, T-55)."""
import contextlib
import hashlib
import json
import os
import pathlib
import socket
import subprocess
import time

import pytest

import sandboxd
import traefik
from preview_app import service
from sandboxd import IMAGE, Engine, Sandbox, together, until
from traefik import Traefik


def host_of(sandbox, port=3000):
    domain = sandbox.daemon.env.get("PREVIEW_DOMAIN", "localhost")
    return f"s-{sandbox.id.lower()}-{port}.preview.{domain}"


def router_of(sandbox, port):
    return f"s-{sandbox.id.lower()}-{port}@docker"


@pytest.fixture(scope="module")
def _pair():
    """A daemon and its Traefik, shared by the tests of this file."""
    d = sandboxd.Daemon(**traefik.ports())
    try:
        d.start()
        with Traefik(d) as t:
            yield d, t
            assert t.errors() == []
    finally:
        d.close()


@pytest.fixture
def front(_pair):
    return _pair[1]


@pytest.fixture
def daemon(_pair):
    return _pair[0]


# --- routers ---


def test_labels_say_one_router_a_port(make_sandbox, engine):
    s = make_sandbox(ports=[3000, 8080])
    labels = engine.inspect(s.container)["Config"]["Labels"]
    name = f"s-{s.id.lower()}"
    want = {"traefik.enable": "true", "sandboxd.managed": "true",
            f"traefik.http.services.{name}.loadbalancer.server.port": "3000"}
    for port in (3000, 8080):
        router = f"traefik.http.routers.{name}-{port}"
        want |= {router + ".rule": f"Host(`{name}-{port}.preview.localhost`)",
                 router + ".entrypoints": "web", router + ".priority": "100",
                 router + ".service": "sandboxd-edge@file"}
    assert {k: v for k, v in labels.items() if k.startswith("traefik.") or k in want} == want
    none = make_sandbox(ports=[])
    labels = engine.inspect(none.container)["Config"]["Labels"]
    assert not [k for k in labels if k.startswith("traefik.")]


def test_no_text_of_a_tenant_reaches_a_label(make_sandbox, engine):
    evil = "x`) || Host(`evil.example"
    s = make_sandbox(ports=[3000], metadata={evil: evil}, env={"E": evil},
                     external={"user_id": evil, "project_id": evil, "workspace_id": evil})
    labels = engine.inspect(s.container)["Config"]["Labels"]
    assert not [k for k, v in labels.items() if "evil" in k + v]


def test_routers_follow_the_sandbox(make_sandbox, front):
    s = make_sandbox(ports=[3000, 8080])
    for port in (3000, 8080):
        front.wait_router(router_of(s, port))
        r = front.routers()[router_of(s, port)]
        assert r["status"] == "enabled" and r["service"] == "sandboxd-edge@file"
        assert r["rule"] == f"Host(`{host_of(s, port)}`)" and r["priority"] == 100
        assert r["entryPoints"] == ["web"]
    s.stop()
    front.wait_router(router_of(s, 3000), there=False)
    s.start()
    front.wait_router(router_of(s, 8080))
    s.purge()
    front.wait_router(router_of(s, 8080), there=False)


def test_a_frozen_sandbox_keeps_its_router(make_sandbox, front):
    s = make_sandbox(ports=[3000])
    front.wait_router(router_of(s, 3000))
    s.client.post(s.v1 + "/pause", expect=200)
    other = make_sandbox(ports=[3001]) # its start makes Traefik look at all again
    front.wait_router(router_of(other, 3001))
    assert router_of(s, 3000) in front.routers()


def test_only_our_catch_all_routes_besides(front):
    static = {n: r for n, r in front.routers().items() if r["provider"] == "file"}
    assert set(static) == {"sandboxd-preview@file", "sandboxd-port@file", "sandboxd-header@file"}
    assert {r["priority"] for r in static.values()} == {1}
    assert {r["service"] for r in static.values()} == {"sandboxd-edge"}
    services = front.api.get("/api/http/services", expect=200).json()
    servers = [s["loadBalancer"]["servers"] for s in services if s["provider"] == "file"]
    assert servers == [[{"url": f"http://{front.daemon.env['SANDBOXED_EDGE_BIND']}"}]]


def test_foreign_containers_are_ignored(make_sandbox, make_daemon, daemon, front, engine):
    s = make_sandbox(ports=[3000])
    other = make_daemon(**traefik.ports())
    theirs = Sandbox.create(other, ports=[3000])
    labels = {"traefik.enable": "true", "traefik.http.routers.foreign.rule": "PathPrefix(`/`)",
              "traefik.http.services.foreign.loadbalancer.server.port": "80"}
    made = []
    try:
        # One of somebody else's, and one that claims to be ours.
        for n, extra in enumerate(({}, {"sandboxed.instance": daemon.instance,
                                        "sandboxed.role": "forged"})):
            made.append(engine.create(f"traefik-test-{n}-{s.id.lower()}", {
                "Image": IMAGE, "Cmd": ["sleep", "600"], "Labels": labels | extra,
                "HostConfig": {"NetworkMode": "none"}}))
            engine.start(made[-1])
        front.wait_router(router_of(s, 3000))
        late = make_sandbox(ports=[3000])
        front.wait_router(router_of(late, 3000))
        names = set(front.routers())
    finally:
        for c in made:
            engine.remove(c)
    assert "foreign@docker" not in names and router_of(theirs, 3000) not in names


def test_routers_come_back_after_a_restart_of_the_daemon(make_daemon):
    d = make_daemon(**traefik.ports())
    s = Sandbox.create(d, ports=[3000])
    with Traefik(d) as t:
        t.wait_router(router_of(s, 3000))
        d.restart(hard=True)
        s2 = Sandbox.create(d, ports=[3000])
        t.wait_router(router_of(s2, 3000), deadline_s=30) # Traefik backs off for a while
        assert router_of(s, 3000) in t.routers()


# --- the socket ---


class FrontSocket(sandboxd.UnixConnection):
    def __init__(self, daemon, timeout=10.0):
        super().__init__(daemon.data_dir + "/front/docker.sock", timeout * sandboxd.SLOW)

    def ask(self, method, path, body=None, headers=None):
        self.request(method, path, body=body, headers=headers or {})
        r = self.getresponse()
        return sandboxd.Reply(r.status, r.headers, r.read())


def ask(daemon, method, path, body=None, headers=None):
    """One question on a connection of its own, which may be closed before all of it is sent."""
    c = FrontSocket(daemon)
    try:
        try:
            return c.ask(method, path, body, headers)
        except (BrokenPipeError, ConnectionResetError): # refused while we were still talking
            if c.sock is None: # and no answer came
                raise
            r = c.response_class(c.sock, method=method)
            r.begin()
            return sandboxd.Reply(r.status, r.headers, r.read())
    finally:
        c.close()


def test_the_socket_tells_what_traefik_needs(make_sandbox, daemon):
    s = make_sandbox(ports=[3000], env={"SECRET": "hidden-value"}, metadata={"m": "hidden-value"})
    silent = make_sandbox(ports=[])
    assert ask(daemon, "GET", "/_ping").body == b"OK"
    assert ask(daemon, "GET", "/version").json()["ApiVersion"] == "1.45"
    listed = ask(daemon, "GET", "/v1.41/containers/json?all=1")
    mine = [c for c in listed.json() if c["Names"] == [f"/s-{s.id.lower()}"]]
    assert len(mine) == 1 and mine[0]["Id"] == s.container and mine[0]["State"] == "running"
    assert silent.id.lower() not in listed.text
    inspected = [ask(daemon, "GET", f"/v1.45/containers/{ref}/json").expect(200)
                 for ref in (s.container, f"s-{s.id.lower()}")]
    assert inspected[0].body == inspected[1].body
    box = inspected[0].json()
    assert set(box) == {"Id", "Name", "Created", "State", "Config", "HostConfig",
                        "NetworkSettings"}
    assert set(box["Config"]) == {"Labels"}
    assert box["Config"]["Labels"]["sandboxed.instance"] == daemon.instance
    network, = box["NetworkSettings"]["Networks"].values()
    real, = Engine().inspect(s.container)["NetworkSettings"]["Networks"].values()
    assert network == {"IPAddress": real["IPAddress"]}
    for reply in [listed, *inspected]:
        assert "hidden-value" not in reply.text and IMAGE not in reply.text
    s.stop()
    assert ask(daemon, "GET", f"/v1.45/containers/s-{s.id.lower()}/json").status == 404
    assert s.id.lower() not in ask(daemon, "GET", "/v1.45/containers/json").text


@pytest.mark.quick
def test_the_socket_refuses_everything_else(make_sandbox, daemon):
    s = make_sandbox(ports=[3000])
    box = f"/v1.41/containers/{s.container}"
    spec = json.dumps({"Image": IMAGE, "HostConfig": {"Privileged": True}})
    rows = [
        ("POST", "/v1.41/containers/create", spec), ("POST", box + "/exec", '{"Cmd":["id"]}'),
        ("POST", box + "/start", None), ("POST", box + "/stop", None),
        ("POST", box + "/kill", None), ("POST", box + "/attach", None), ("DELETE", box, None),
        ("GET", box + "/archive?path=/etc/passwd", None), ("PUT", box + "/archive?path=/", "x"),
        ("HEAD", box + "/archive?path=/", None), ("GET", box + "/export", None),
        ("GET", box + "/logs?stdout=1", None), ("GET", box + "/top", None),
        ("GET", box + "/changes", None), ("GET", box + "/stats", None),
        ("GET", "/v1.41/volumes", None), ("POST", "/v1.41/volumes/create", "{}"),
        ("GET", "/v1.41/networks", None), ("POST", "/v1.41/networks/prune", None),
        ("GET", "/v1.41/images/json", None), ("POST", "/v1.41/build", "x"),
        ("POST", "/v1.41/images/create?fromSrc=-", "x"), ("GET", "/v1.41/info", None),
        ("GET", "/v1.41/system/df", None), ("GET", "/v1.41/secrets", None),
        ("POST", "/v1.41/swarm/init", "{}"), ("POST", "/session", None), ("GET", "/", None),
        ("GET", "/v1.41/containers/json", "a body"), ("GET", "/v1.41/containers/x/json", None),
        ("GET", "/v1.41/containers/../info", None), ("GET", "/v1.41//containers/json", None),
        ("GET", "/v1.41/containers/json%2f..%2f..%2finfo", None), ("POST", "/v1.41/events", None),
        ("POST", "/v1.41/containers/create", b"x" * (10 << 20)),
        ("GET", "/v1.41/containers/json", b"x" * (10 << 20)),
    ]
    for method, path, body in rows:
        r = ask(daemon, method, path, body)
        assert r.status == 403, f"{method} {path}: {r}"
        assert r.headers["Connection"] == "close"
    long = ask(daemon, "GET", "/v1.41/containers/json?filters=" + "x" * 9000)
    assert long.status == 403
    assert s.status == "running"


def raw_socket(daemon):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(10 * sandboxd.PATIENCE)
    s.connect(daemon.data_dir + "/front/docker.sock")
    return s


@pytest.mark.concurrent
def test_the_socket_bears_bad_clients(make_daemon):
    d = make_daemon(**traefik.ports())
    assert ask(d, "GET", "/_ping").status == 200
    # Keep-alive: a second question on the same connection; a broken one ends it.
    c = FrontSocket(d)
    assert c.ask("GET", "/_ping").status == c.ask("GET", "/version").status == 200
    assert c.ask("GET", "/v1.41/info").status == 403
    c.close()
    # Two questions at once are a body, or a try to have one overlooked.
    with raw_socket(d) as s:
        s.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        assert b" 403 " in s.recv(65536)
    # All places taken by silent clients: one more is turned away, and comes in when one leaves.
    silent = [raw_socket(d) for _ in range(16)]
    until(lambda: d.fds() >= 16, what="all connected")
    with raw_socket(d) as s, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        s.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert s.recv(65536) == b""
    for s in silent[1:]:
        s.close()

    def served():
        with contextlib.suppress(OSError, sandboxd.http.client.HTTPException):
            return ask(d, "GET", "/_ping").status == 200
        return False

    until(served, what="a place is free again")
    # A head that does not end is cut long before the idle time.
    silent[0].sendall(b"GET /_ping HTTP/1.1\r\nHost:")
    assert silent[0].recv(100) == b""
    silent[0].close()


@pytest.mark.concurrent
def test_the_stream_of_events(make_daemon):
    d = make_daemon(**traefik.ports())
    c = FrontSocket(d, timeout=30)
    c.request("GET", "/v1.41/events?filters=%7B%7D")
    stream = c.getresponse()
    assert stream.status == 200

    def event():
        e = json.loads(stream.readline())
        assert e["Type"] == "container" and e["id"] == e["Actor"]["ID"]
        return e["Action"], e["id"]

    silent = Sandbox.create(d, ports=[]) # nothing is told of it
    s = Sandbox.create(d, ports=[3000])
    box = s.container
    assert event() == ("start", box)
    s.stop()
    assert event() == ("die", box)
    s.start()
    assert event() == ("start", s.container)
    # Who comes later is made to look once.
    late = FrontSocket(d, timeout=30)
    late.request("GET", "/v1.41/events")
    assert json.loads(late.getresponse().readline())["Action"] == "start"
    box = s.container
    s.purge()
    assert event() == ("die", box)
    silent.purge()
    # The daemon's end is the stream's end, at once.
    d.stop()
    with contextlib.suppress(sandboxd.http.client.IncompleteRead):
        assert stream.read() == b""
    c.close()
    late.close()
    assert not pathlib.Path(d.data_dir, "front/docker.sock").exists()


def test_builtin_edge_needs_no_socket(make_daemon):
    d = make_daemon(**traefik.ports(PREVIEW_EDGE="builtin"))
    assert not pathlib.Path(d.data_dir, "front").exists()


# --- the files ---


def test_files_are_made_from_the_settings(tmp_path):
    env = {"PATH": "/usr/bin", "SANDBOXD_API_AUTH_DISABLED": "true",
           "SANDBOXED_DATA_DIR": str(tmp_path / "data"), "SANDBOXED_EDGE_BIND": "127.0.0.1:9181",
           "PREVIEW_DOMAIN": "Box.LOCALHOST", "HTTP_PORT": "8080", "HTTPS_PORT": "8443"}

    def write(target=None, **more):
        args = ["--dir", str(target)] if target else []
        r = subprocess.run([sandboxd.BINARY, "print-traefik", *args], env=env | more,
                           capture_output=True, text=True, check=False)
        assert r.returncode == 0, r.stderr
        static, dynamic = r.stdout.split()
        return pathlib.Path(static).read_text(), pathlib.Path(dynamic).read_text()

    static, dynamic = write() # makes the database, whose name is in the file
    instance = sandboxd.instance_of(tmp_path / "data")
    assert f"Label(`sandboxed.instance`, `{instance}`)" in static
    assert f'endpoint: "unix://{tmp_path}/data/front/docker.sock"' in static
    assert f'directory: "{tmp_path}/data/traefik/dynamic"' in static
    assert 'address: ":8080"' in static and "8443" not in static and "tls" not in dynamic
    assert 'url: "http://127.0.0.1:9181"' in dynamic
    assert r"\\.preview\\.box\\.localhost$`)" in dynamic
    assert write(tmp_path / "other")[1] == dynamic
    again = write()
    assert again == (static, dynamic)

    static, dynamic = write(PREVIEW_TLS="true", PREVIEW_BIND="::1")
    assert 'address: "[::1]:8443"' in static and 'address: "[::1]:8080"' in static
    assert "to: websecure" in static and 'entryPoints: ["websecure"]' in dynamic
    assert f'certFile: "{tmp_path}/data/traefik/certs/preview.crt"' in dynamic
    static, dynamic = write(PREVIEW_TLS="true", PREVIEW_ACME_DNS="route53",
                            PREVIEW_ACME_EMAIL="ops@example.com")
    assert 'provider: "route53"' in static and 'email: "ops@example.com"' in static
    assert 'main: "*.preview.box.localhost"' in dynamic and "certFile" not in dynamic
    for text in (static, dynamic):
        for own in ("ops@example.com", "sandboxd-retry@file"):
            text = text.replace(own, "")
        assert "@" not in text and "#if" not in text


# --- requests on their way to an app ---


def app_answers(front, sandbox, port=3000):
    """Waits until the app is up; the number of its start."""
    r = front.get(host_of(sandbox, port)).expect(200)
    words = r.text.split()
    assert words[:3] == ["app", str(port), "boot"], r
    return words[3]


def post(front, host, size):
    """A body of that many bytes, sent in chunks; the app's sum of it must be right."""
    piece = os.urandom(65536)
    digest = hashlib.sha256()

    def body():
        for _ in range(size // len(piece)):
            digest.update(piece)
            yield piece

    r = front.request("POST", host, "/sum", raw=body()).expect(200)
    assert r.json()["bytes"] == size and r.json()["sha256"] == digest.hexdigest()


def websocket(front, host, name=None):
    """Opens one, sends a masked frame and gets it back; the open Raw."""
    r = front.raw(timeout=30) if not name else traefik.TlsRaw(front.port, 30, name)
    r.send(f"GET /ws HTTP/1.1\nHost: {host}\nConnection: Upgrade\nUpgrade: websocket\n"
           "Sec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n\n")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = r.sock.recv(1)
        assert byte, f"closed after {head!r}"
        head += byte
    assert head.startswith(b"HTTP/1.1 101 "), head
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    exchange(r, b"\x81\x85\x01\x02\x03\x04igohn")
    return r


def exchange(r, frame):
    r.sock.sendall(frame)
    back = b""
    while len(back) < len(frame):
        data = r.sock.recv(1024)
        assert data, "closed"
        back += data
    assert back == frame


def events(front, host, count):
    """Reads a stream of events to its end."""
    c = front.client(30)
    conn = c._connection() if not front.tls else None
    if conn is None:
        c._name = host
        conn = c._connection()
    conn.request("GET", f"/sse?n={count}", headers={"Host": host})
    r = conn.getresponse()
    assert r.status == 200 and r.headers["Content-Type"] == "text/event-stream"
    for n in range(count):
        assert r.readline() == b"data: %d\n" % n and r.readline() == b"\n"
    assert r.read() == b""
    conn.close()


def first_events(front, host, count):
    """They come one by one, not all at the end, which would be in an hour."""
    with front.client(30 * sandboxd.SLOW).stream("GET", "/sse?n=72000", headers={"Host": host}) as s:
        lines = s.lines()
        for n in range(count):
            assert (next(lines), next(lines)) == (f"data: {n}", "")


@pytest.mark.quick
def test_two_ports_each_its_own_app(make_sandbox, front):
    s = make_sandbox(ports=[3000, 8080], services=[service(3000), service(8080, "127.0.0.1")])
    for port in (3000, 8080):
        app_answers(front, s, port)
        r = front.get(f"{port}-{s.id.lower()}.localhost").expect(200)
        assert r.text.startswith(f"app {port} ")
        r = front.get("x.example", headers={"E2b-Sandbox-Id": s.id, "E2b-Sandbox-Port": str(port)})
        assert r.expect(200).text.startswith(f"app {port} ")
    assert front.get(host_of(s).upper()).status == 200


def test_the_app_sees_the_request_as_it_was_sent(make_sandbox, front):
    s = make_sandbox(ports=[3000], services=[service(3000)])
    app_answers(front, s)
    r = front.get(host_of(s), "/seen/a%2Fb//c/../d?x=%00&y=1", headers={
        "X-Forwarded-For": "192.0.2.1", "X-Forwarded-Host": "evil.example", "X-Real-Ip": "192.0.2.1",
        "X_Forwarded_For": "192.0.2.1", "X-Own": "kept", "Connection": "X-Forwarded-For, X-Gone",
        "X-Gone": "1"}).expect(200).json()
    assert r["target"] == "/seen/a%2Fb//c/../d?x=%00&y=1"
    seen = {}
    for name, value in r["headers"]:
        seen.setdefault(name.lower(), []).append(value)
    assert seen["host"] == [host_of(s)] and seen["x-own"] == ["kept"]
    assert seen["x-forwarded-for"] == ["127.0.0.1"] and "x-gone" not in seen
    assert "192.0.2.1" not in str(seen) and "evil.example" not in str(seen)
    # Nobody's certificate or proxy credentials, nothing that Traefik made up for itself.
    assert not [n for n in seen if n.startswith(("x-forwarded-server", "x-forwarded-tls"))]


def test_streams_and_sockets(make_sandbox, front):
    s = make_sandbox(ports=[3000], services=[service(3000)])
    app_answers(front, s)
    first_events(front, host_of(s), 10)
    with websocket(front, host_of(s)) as w:
        exchange(w, b"\x82\xfe" + os.urandom(20000))
    post(front, host_of(s), 64 << 20)


KINDS = {
    "GET": lambda front, host: front.get(host).expect(200),
    "POST": lambda front, host: post(front, host, 8 << 20),
    "WebSocket": lambda front, host: websocket(front, host).close(),
    "SSE": lambda front, host: events(front, host, 3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_first_request_wakes(make_sandbox, front, kind):
    s = make_sandbox(ports=[3000], services=[service(3000)])
    boot = app_answers(front, s)
    s.stop()
    KINDS[kind](front, host_of(s))
    assert app_answers(front, s) != boot
    s.client.post(s.v1 + "/pause", expect=200)
    boot = app_answers(front, s)
    s.client.post(s.v1 + "/pause", expect=200)
    KINDS[kind](front, host_of(s))
    assert app_answers(front, s) == boot # thawed, not started


def test_a_hundred_first_requests_are_one_start(make_sandbox, front):
    s = make_sandbox(ports=[3000], services=[service(3000)])
    old = app_answers(front, s)
    s.stop()
    calls = [lambda k=k: KINDS[k](front, host_of(s)) for k in ("POST", "WebSocket", "SSE")] * 10
    calls += [lambda: app_answers(front, s)] * 70
    boots = {b for b in together(*calls) if isinstance(b, str)}
    assert len(boots) == 1 and old not in boots


# --- in the very moment of a stop, a freeze, a deletion ---

STAGGER_MS = (0, 1, 4, 15, 60)


def clean(reply, gone):
    """Served by the app, or refused in words of the edge."""
    if reply.status == 200:
        return reply.text.startswith("app 3000 ")
    if traefik.own_answer(reply) or not reply.body:
        return False
    if reply.status in (404, 410):
        return gone
    return reply.status == 503 and "Retry-After" in reply.headers


def storm(front, sandbox, act):
    """act(), and requests within the same moment: their replies."""

    def visit(after_ms):
        time.sleep(after_ms / 1000) # not to wait for something, but to hit each of its moments
        began = time.monotonic()
        r = front.get(host_of(sandbox), timeout=80)
        assert time.monotonic() - began < 20 * sandboxd.PATIENCE
        return r

    return together(act, *[lambda ms=ms: visit(ms) for ms in STAGGER_MS])[1:]


@pytest.mark.parametrize("what", ["stop", "pause", "purge"])
def test_fifty_requests_in_the_moment_of(make_sandbox, front, what):
    replies, s = [], None
    for _ in range(10):
        if s is None or what == "purge":
            s = make_sandbox(ports=[3000], services=[service(3000)])
        app_answers(front, s)
        act = s.purge if what == "purge" else lambda: s.client.post(f"{s.v1}/{what}", expect=200)
        replies += storm(front, s, act)
    bad = [r for r in replies if not clean(r, what == "purge")]
    assert len(replies) == 50 and not bad, bad


# --- what must not be reached ---


def test_no_way_from_the_previews_to_the_api(make_sandbox, front, daemon):
    s = make_sandbox(ports=[3000])
    api = f"127.0.0.1:{daemon.port}"
    hosts = ["localhost", "127.0.0.1", api, "api.localhost", "api.preview.localhost", "sandboxd",
             "preview.localhost", "host.docker.internal", f"{daemon.port}-x.localhost",
             f"s-{sandboxd.new_id().lower()}-3000.preview.localhost"]
    paths = ("/healthz", "/v1/sandboxes", "/sandboxes", "/metrics", "/forward-auth",
             "/api/http/routers", "/ping", "/dashboard/")
    rows = [(host, path, headers) for host in hosts for path in paths for headers in
            ({}, {"X-Forwarded-Host": api}, {"X-Original-URL": path, "X-Forwarded-Prefix": "/"})]
    # A sandbox's own host, with the API's port: that port inside the sandbox, where nobody listens.
    inside = [(host_of(s, daemon.port), "/healthz", {}),
              (f"{daemon.port}-{s.id.lower()}.localhost", "/healthz", {}),
              ("localhost", "/healthz", {"E2b-Sandbox-Id": s.id, "E2b-Sandbox-Port": daemon.port})]

    def probe(host, path, headers, status):
        r = front.get(host, path, headers=headers)
        assert r.status == status, f"{host}{path} {headers}: {r}"
        assert s.id not in r.text and "X-Request-Id" not in r.headers
        return r

    for row in rows:
        probe(*row, 404)
    # They wait a while for somebody to listen there.
    for r in together(*[lambda row=row: probe(*row, 502) for row in inside]):
        assert not traefik.own_answer(r) and "No port listens" in r.text
    with front.raw() as r: # an absolute form names another host than its Host line
        r.send(f"GET http://127.0.0.1:{daemon.port}/v1/sandboxes HTTP/1.1\n"
               f"Host: {host_of(s)}\n\n")
        reply = r.reply()
        assert reply.status in (400, 404, 421) and s.id not in reply.text
    with front.raw() as r:
        r.send(f"CONNECT 127.0.0.1:{daemon.port} HTTP/1.1\nHost: 127.0.0.1:{daemon.port}\n\n")
        reply = r.reply()
        assert reply is None or reply.status >= 400


# --- TLS, and no Traefik at all ---


def test_tls_with_a_wildcard_certificate(make_daemon):
    d = make_daemon(**traefik.ports(PREVIEW_TLS="true", PREVIEW_DOMAIN="box.localhost"))
    front = Traefik(d)
    traefik.make_certificate(front.dir, "*.preview.box.localhost", "*.box.localhost")
    s = Sandbox.create(d, ports=[3000], services=[service(3000)])
    url = s.get()["preview"]["url"]
    assert url == f"https://{host_of(s)}:{d.env['HTTPS_PORT']}"
    with front:
        front.wait_router(router_of(s, 3000))
        router = front.routers()[router_of(s, 3000)]
        assert router["entryPoints"] == ["websecure"] and "tls" in router
        boot = app_answers(front, s)
        seen = front.get(host_of(s), "/seen/x").expect(200).json()["headers"]
        assert ["X-Forwarded-Proto", "https"] in seen
        assert front.get(f"3000-{s.id.lower()}.box.localhost").expect(200).text.split()[3] == boot
        websocket(front, host_of(s), name=host_of(s)).close()
        s.stop()
        assert app_answers(front, s) != boot # woken under TLS
        for kind in ("POST", "SSE"):
            s.stop()
            KINDS[kind](front, host_of(s))
        s.stop()
        websocket(front, host_of(s), name=host_of(s)).close()
        plain = sandboxd.Client(front.plain_port)
        r = plain.get("/path?q=1", headers={"Host": host_of(s)})
        assert r.status in (301, 308)
        assert r.headers["Location"] == f"https://{host_of(s)}:{d.env['HTTPS_PORT']}/path?q=1"
        assert front.errors() == []


def test_the_builtin_edge_serves_by_itself(make_daemon):
    d = make_daemon(**traefik.ports(PREVIEW_EDGE="builtin"))
    s = Sandbox.create(d, ports=[3000], services=[service(3000)])
    c = sandboxd.Client(int(d.env["HTTP_PORT"]))
    boot = c.get("/", headers={"Host": host_of(s)}, expect=200).text
    s.stop()
    again = c.get("/", headers={"Host": host_of(s)}, expect=200).text
    assert again.startswith("app 3000 ") and again != boot
    assert c.get("/v1/sandboxes", headers={"Host": f"127.0.0.1:{d.port}"}).status == 404
