"""Previews through the real Traefik: its routers, the socket it learns them from, and every kind of
request on its way to an app (T-18, T-55)."""
import contextlib
import json
import pathlib
import socket
import subprocess

import pytest

import sandboxd
import traefik
from sandboxd import IMAGE, Engine, until
from traefik import Traefik


def host_of(sandbox, port):
    return f"s-{sandbox.id.lower()}-{port}.preview.localhost"


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
    theirs = sandboxd.Sandbox.create(other, ports=[3000])
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
    s = sandboxd.Sandbox.create(d, ports=[3000])
    with Traefik(d) as t:
        t.wait_router(router_of(s, 3000))
        d.restart(hard=True)
        s2 = sandboxd.Sandbox.create(d, ports=[3000])
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
        except BrokenPipeError: # refused while we were still talking
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
    s.settimeout(10 * sandboxd.SLOW)
    s.connect(daemon.data_dir + "/front/docker.sock")
    return s


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

    silent = sandboxd.Sandbox.create(d, ports=[]) # nothing is told of it
    s = sandboxd.Sandbox.create(d, ports=[3000])
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
        assert "@" not in text.replace("ops@example.com", "") and "#if" not in text
