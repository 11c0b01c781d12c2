"""Tokens and tenants: who may ask, and that what is another's looks like what is not there."""

import pathlib
import re
import subprocess

import pytest

from sandboxd import Daemon, Sandbox, raw_exchange

pytestmark = pytest.mark.quick

MISSING = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
SECRETS = {"alice": ["alice-secret-1", "alice-secret-2"], "bob": ["bob=secret:with"],
           "carol": ["x" * 200]}


@pytest.fixture(scope="module")
def guarded():
    """A daemon with tokens in both spellings, several secrets for one name."""
    tokens = ",".join([f"alice:{SECRETS['alice'][0]}", f" alice={SECRETS['alice'][1]} ",
                       f"bob:{SECRETS['bob'][0]}", f"carol={SECRETS['carol'][0]}"])
    with Daemon(SANDBOXD_API_AUTH_DISABLED=None, SANDBOXD_API_TOKENS=tokens) as d:
        yield d.start()


@pytest.fixture(scope="module")
def box(guarded):
    """Alice's."""
    box = Sandbox.create(guarded, guarded.client(SECRETS["alice"][0]),
                         external={"user_id": "u", "project_id": "p"}, metadata={"k": "v"})
    box.put_file("mine", b"alice's")
    return box


def test_every_secret_of_a_name_is_the_same_tenant(guarded, box):
    for secret in SECRETS["alice"]:
        assert guarded.client(secret).get(box.v1).expect(200).json()["id"] == box.id
    for name in "bob", "carol":
        assert guarded.client(SECRETS[name][0]).get("/v1/sandboxes").expect(200).json()[
            "sandboxes"] == []


@pytest.mark.parametrize("header, status", [
    ("Bearer alice-secret-1", 200), ("bearer alice-secret-1", 200), ("BEARER alice-secret-1", 200),
    (None, 401), ("", 401), ("Bearer", 401), ("Bearer ", 401), ("Bearer wrong", 401),
    ("Bearer alice-secret", 401), ("Bearer alice-secret-11", 401), ("Bearer alice-secret-1 x", 401),
    ("Bearer Alice-secret-1", 401), ("Bearer alice", 401), ("Bearer alice:alice-secret-1", 401),
    ("Basic YWxpY2U6YWxpY2Utc2VjcmV0LTE=", 401), ("alice-secret-1", 401),
    ("Token alice-secret-1", 401), ("Beareralice-secret-1", 401), ("Bearer " + "y" * 4000, 401),
    ("Bearer alice-secret-1,alice-secret-2", 401), ("Bearer \u00e9", 401),
])
def test_the_authorization_header(guarded, header, status):
    lines = f"Authorization: {header}\r\n" if header is not None else ""
    for path in "/v1/sandboxes", "/sandboxes":
        replies, _ = raw_exchange(guarded, (f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}"
                                            "Connection: close\r\n\r\n").encode("utf-8"))
        assert replies[0].status == status, replies
        if status == 401:
            error = replies[0].json()["error"]
            code = error["code"] if path.startswith("/v1") else error
            assert code == "unauthorized"


def test_two_authorization_headers_are_refused(guarded):
    two = "Authorization: Bearer alice-secret-1\r\nAuthorization: Bearer alice-secret-2\r\n"
    replies, _ = raw_exchange(guarded, f"GET /v1/sandboxes HTTP/1.1\r\nHost: localhost\r\n{two}"
                              "Connection: close\r\n\r\n".encode())
    assert replies[0].status in (400, 401)


def test_loopback_and_forwarded_headers_are_no_identity(guarded):
    """T-37."""
    for headers in ({}, {"X-Forwarded-For": "127.0.0.1"}, {"X-Forwarded-User": "alice"},
                    {"X-Real-IP": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"},
                    {"Cookie": "token=alice-secret-1"}, {"X-Api-Key": "alice-secret-1"}):
        assert guarded.get("/v1/sandboxes", headers=headers).status == 401
    assert guarded.get("/v1/sandboxes?token=alice-secret-1").status == 401


def test_what_needs_no_token(guarded):
    assert guarded.get("/healthz").status == 200
    assert guarded.get("/readyz").status == 200
    for path in "/v1/nope", "/nope", f"/v1/sandboxes/{MISSING}", "/metrics":
        assert guarded.get(path).status in (401, 404), path
    assert guarded.get("/metrics").status == 401


# What a route needs besides its path to get as far as asking whose the sandbox is: query or JSON
# body. A route that is not here is called with neither.
NEEDS = {
    "POST /sandbox/{id}/exec": {"cmd": ["id"]},
    "PATCH /v1/sandboxes/{id}": {"visibility": "private"},
    "POST /v1/sandboxes/{id}/exec": {"cmd": ["id"]},
    "POST /v1/sandboxes/{id}/shares": {"port": 3000},
    "POST /v1/sandboxes/{id}/processes": {"cmd": ["id"]},
    "POST /v1/sandboxes/{id}/processes/{process}/signal": {"signal": "TERM"},
    "POST /v1/sandboxes/{id}/processes/{process}/resize": {"rows": 2, "cols": 2},
    "GET /v1/sandboxes/{id}/files/content": "?path=mine",
    "PUT /v1/sandboxes/{id}/files": {"path": "evil", "content": "x"},
    "PATCH /v1/sandboxes/{id}/files": "?path=mine",
    "DELETE /v1/sandboxes/{id}/files": "?path=evil",
    "GET /v1/sandboxes/{id}/files/stat": "?path=mine",
    "GET /v1/sandboxes/{id}/files/search": "?name=x",
    "POST /v1/sandboxes/{id}/files/move": {"from": "mine", "to": "evil"},
    "POST /v1/sandboxes/{id}/files/copy": {"from": "mine", "to": "evil"},
    "POST /v1/sandboxes/{id}/files/mkdir": {"path": "evil"},
    "POST /v1/sandboxes/{id}/files/chmod": {"path": "mine", "mode": "0600"},
    "POST /v1/sandboxes/{id}/files/batch": {"files": [{"path": "evil", "content": "x"}]},
}
# These end it: called last, in this order. The first takes the row, the second the workspace.
ENDS = {"DELETE /sandbox/{id}": 204, "POST /sandbox/{id}/purge": 200,
        "DELETE /v1/sandboxes/{id}": 404}


def routes(daemon):
    out = subprocess.run([daemon.binary, "--print-routes"], capture_output=True, text=True,
                         check=True).stdout
    return re.findall(r"^([A-Z]+) +(/\S*)", out, re.M)


def shape(reply, box_id):
    """What a reply says, without what differs from one request to the next."""
    text = reply.text.replace(box_id, "ID").replace(MISSING, "ID")
    text = re.sub(r'"request_id":"[^"]*"', '"request_id":"R"', text)
    return reply.status, reply.headers["Content-Type"], text


def test_the_matrix_of_routes_and_tenants(guarded):
    """T-41: owner, other tenant, nobody, on every route that the binary has."""
    table = [f"{m} {p}" for m, p in routes(guarded)]
    assert NEEDS.keys() <= set(table) and ENDS.keys() <= set(table)
    alice, bob = guarded.client(SECRETS["alice"][0]), guarded.client(SECRETS["bob"][0])
    box = Sandbox.create(guarded, alice)
    box.put_file("mine", b"alice's")
    for route in [r for r in table if "{id}" in r and r not in ENDS] + list(ENDS):
        method, path = route.split()
        path = re.sub(r"\{(?!id)\w+\}", MISSING, path)
        need = NEEDS.get(route)
        query, body = (need, None) if isinstance(need, str) else ("", need)

        def ask(client, box_id):
            return client.request(method, path.replace("{id}", box_id) + query, json=body)

        nobody = ask(guarded.client(), box.id)
        assert nobody.status == 401, route
        assert shape(nobody, box.id) == shape(ask(guarded.client(), MISSING), MISSING)
        foreign, missing = ask(bob, box.id), ask(bob, MISSING)
        assert foreign.status == 404, f"{route} (needs a row in NEEDS?): {foreign}"
        assert shape(foreign, box.id) == shape(missing, MISSING), route
        if route == "POST /sandbox/{id}/purge":
            assert box.workspace.exists()
        # Some answers go on for ever: the head is enough.
        with alice.stream(method, path.replace("{id}", box.id) + query, json=body) as owner:
            assert owner.status == ENDS[route] if route in ENDS else owner.status < 500, route
            assert owner.status not in (401, 403), route
    assert not box.workspace.exists()
    assert not guarded.containers(box.id)


def test_routes_without_a_sandbox_want_a_token(guarded):
    for method, path in routes(guarded):
        if "{" not in path and path not in ("/healthz", "/readyz", "/openapi.yaml"):
            # What asks for another proof than a token grants nothing without it either.
            assert guarded.call(method, path).status in (400, 401, 403, 404), path


def test_lists_and_filters_show_only_the_tenants_own(guarded, box):
    bob = guarded.client(SECRETS["bob"][0])
    for query in "", "?status=running", "?external_user_id=u", "?metadata.k=v":
        assert bob.get("/v1/sandboxes" + query).json()["sandboxes"] == []
        own = box.client.get("/v1/sandboxes" + query).json()["sandboxes"]
        assert box.id in [s["id"] for s in own]
    assert bob.get("/sandboxes").json() == []
    page = box.client.get("/v1/sandboxes?limit=1").json()
    if page["next_cursor"]:
        reply = bob.get(f"/v1/sandboxes?cursor={page['next_cursor']}")
        assert reply.status == 400 or reply.json()["sandboxes"] == []


def test_an_id_of_another_tenant_cannot_be_taken(guarded, box):
    """T-42: neither while it lives nor by the workspace that it leaves; its owner is not told."""
    bob = guarded.client(SECRETS["bob"][0])
    reply = bob.post("/v1/sandboxes", {"id": box.id})
    assert reply.status == 409 and "alice" not in reply.text
    own = Sandbox.create(guarded, box.client)
    own.put_file("/home/sandbox/secret", b"alice's")
    own.client.delete(f"/sandbox/{own.id}", expect=204)
    reply = bob.post("/v1/sandboxes", {"id": own.id})
    assert reply.status == 409 and "alice" not in reply.text
    bob.delete(f"/v1/sandboxes/{own.id}", expect=404)
    assert (own.workspace / "secret").exists()
    assert own.client.post("/v1/sandboxes", {"id": own.id}).status == 201
    own.purge()


def test_projects_are_apart(guarded):
    project = {"project": {"id": "same", "user_id": "same"}}
    made = [guarded.client(SECRETS[n][0]).post("/v1/sandboxes", project, expect=201).json()["id"]
            for n in ("alice", "bob")]
    assert len(set(made)) == 2
    for name, box_id in zip(("alice", "bob"), made):
        guarded.client(SECRETS[name][0]).delete(f"/v1/sandboxes/{box_id}", expect=204)


def test_secrets_are_kept_nowhere(guarded, box):
    """T-38: only digests; not in the log, the data directory, the environment or the arguments."""
    guarded.get("/v1/sandboxes", headers={"Authorization": "Bearer guessed-canary"})
    box.exec("true")
    words = [s for group in SECRETS.values() for s in group] + ["guessed-canary"]
    log = guarded.log()
    pid = guarded.process.pid
    environ = open(f"/proc/{pid}/environ", "rb").read().decode(errors="replace")
    cmdline = open(f"/proc/{pid}/cmdline", "rb").read().decode(errors="replace")
    stored = b"".join(p.read_bytes() for p in pathlib.Path(guarded.data_dir, "state").iterdir()
                      if p.is_file()).decode("latin-1")
    for word in words:
        for where in log, environ, cmdline, stored:
            assert word not in where, word


def test_wildcard_bind_with_tokens_serves_only_listed_hosts(make_daemon):
    d = make_daemon(start=False, SANDBOXD_API_AUTH_DISABLED=None,
                    SANDBOXD_API_TOKENS="a:secret-abc", SANDBOXD_API_HOSTS="box.example,10.1.2.3")
    d.env["SANDBOXED_API_BIND"] = f"0.0.0.0:{d.port}"
    d.start()
    for host, status in [("box.example", 200), ("BOX.example:1", 200), ("10.1.2.3", 200),
                         ("localhost", 200), ("0.0.0.0", 421), ("other.example", 421)]:
        reply = d.get("/v1/sandboxes", headers={"Host": host, "Authorization": "Bearer secret-abc"})
        assert reply.status == status, host
    assert d.get("/v1/sandboxes").status == 401
