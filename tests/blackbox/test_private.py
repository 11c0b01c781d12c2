"""Private previews: who is let in, by what, for how long."""
import time
import urllib.parse

import pytest

import sandboxd
from edge import Edge, host_of
from preview_app import service
from sandboxd import PATIENCE

TOKENS = "one:first-secret-1,two:second-secret-2"


@pytest.fixture(scope="module")
def _tenants():
    d = sandboxd.Daemon(SANDBOXD_API_AUTH_DISABLED="false", SANDBOXD_API_TOKENS=TOKENS)
    try:
        d.start()
        yield d
    finally:
        d.close()


@pytest.fixture
def owner(_tenants):
    return _tenants.client("first-secret-1")


@pytest.fixture
def secret(_tenants, owner, make_sandbox):
    s = make_sandbox(daemon=_tenants, client=owner, ports=[3000], services=[service(3000)],
                     visibility="private")
    return s


def share(s, **fields):
    """The link's path and query, and its record."""
    made = s.client.post(s.v1 + "/shares", fields, expect=201).json()
    url = urllib.parse.urlsplit(made["url"])
    assert url.hostname == host_of(s)
    return f"{url.path}?{url.query}", made


def open_link(s, path):
    """The cookie that a share link gives."""
    r = Edge(s).get(path, expect=303)
    assert "sandboxed_code" not in r.headers["Location"]
    assert r.headers["Referrer-Policy"] == "no-referrer"
    cookie = r.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Domain" not in cookie
    return cookie.split(";")[0]


def test_strangers_stay_out(secret):
    assert Edge(secret).get(expect=401).text.startswith("This preview is private")
    assert Edge(secret, headers={"Accept": "application/json"}).get().code == "private"
    for token in ("second-secret-2", "nonsense", "first-secret-1 "[:-2]):
        Edge(secret, headers={"Authorization": f"Bearer {token}"}).get(expect=401)
    assert Edge(secret).upgrade().status == 401


def test_a_stranger_wakes_nobody(secret):
    secret.stop()
    Edge(secret).get(expect=401)
    Edge(secret).get("/.sandboxed/wake", expect=401)
    time.sleep(0.3)
    assert secret.status == "stopped"


@pytest.mark.parametrize("name,value", [("Authorization", "Bearer first-secret-1"),
                                        ("X-Sandboxed-Token", "first-secret-1")])
def test_the_owners_token(secret, name, value):
    seen = Edge(secret, headers={name: value}).get("/seen/x", expect=200)
    assert "first-secret-1" not in seen.text # and the app does not see it
    assert Edge(secret, headers={name: value}).upgrade().status == 101


def test_a_share_link(secret):
    path, record = share(secret, ttl_s=600)
    assert record["used"] is False and record["once"] is False
    cookie = open_link(secret, path.replace("/?", "/deep/page?a=1&"))
    e = Edge(secret, headers={"Cookie": f"own=1; {cookie}; more=2"})
    seen = e.get("/seen/x", expect=200).json()
    assert [v for k, v in seen["headers"] if k.lower() == "cookie"] == ["own=1; more=2"]
    secret.stop()
    assert e.get().expect(200) # who is let in may wake it
    listed = secret.client.get(secret.v1 + "/shares", expect=200).json()["shares"]
    assert [x["id"] for x in listed] == [record["id"]] and "url" not in listed[0]


def test_a_cookie_is_of_one_sandbox_and_port(secret, _tenants, owner, make_sandbox):
    other = make_sandbox(daemon=_tenants, client=owner, ports=[3000], visibility="private")
    path, _ = share(secret)
    name, _, value = open_link(secret, path).partition("=")
    Edge(secret, headers={"Cookie": f"{name}={value}"}).get(expect=200)
    Edge(secret, 4000, headers={"Cookie": f"{name}={value}"}).get(expect=401)
    for n in (name, f"sandboxed-{other.id.lower()}"):
        Edge(other, headers={"Cookie": f"{n}={value}"}).get(expect=401)


def test_no_mutant_of_a_code_opens_anything(secret):
    path, _ = share(secret)
    code = path.partition("=")[2]
    mutants = [code[:n] + ("0" if code[n] != "0" else "1") + code[n + 1:]
               for n in range(0, len(code), 2)]
    mutants += [code[:-1], code + "0", code.lower(), code.swapcase(), "", ".", code.split(".")[0],
                code.split(".")[0] + ".", "." + code.split(".")[1], code.replace(".", ".."),
                code.split(".")[0] + "." + "0" * 64, code + "." + code, "%00" + code]
    assert len(mutants) >= 50
    for m in mutants:
        assert Edge(secret).get(f"/?sandboxed_code={m}").status == 401, m
        assert Edge(secret, headers={"Cookie": f"sandboxed-{secret.id.lower()}={m}"}) \
            .get().status == 401, m
    # a code is no cookie
    Edge(secret, headers={"Cookie": f"sandboxed-{secret.id.lower()}={code}"}).get(expect=401)


def test_a_one_time_link(secret):
    path, record = share(secret, once=True, ttl_s=600)
    cookie = open_link(secret, path)
    Edge(secret).get(path, expect=401)
    Edge(secret, headers={"Cookie": cookie}).get(expect=200)
    assert secret.client.get(secret.v1 + "/shares").json()["shares"][0]["used"] is True
    secret.daemon.restart()
    Edge(secret).get(path, expect=401)
    Edge(secret, headers={"Cookie": cookie}).get(expect=200)


def test_expiry_and_revoke(secret):
    Edge(secret, headers={"X-Sandboxed-Token": "first-secret-1"}).get(expect=200) # the app is up
    path, _ = share(secret, ttl_s=int(2 * PATIENCE))
    cookie = open_link(secret, path)
    with Edge(secret, headers={"Cookie": cookie}).upgrade() as ws:
        assert ws.status == 101 and ws.closed(30)
    Edge(secret, headers={"Cookie": cookie}).get(expect=401)
    path, record = share(secret)
    cookie = open_link(secret, path)
    with Edge(secret, headers={"Cookie": cookie}).upgrade() as ws:
        began = time.monotonic()
        secret.client.delete(f"{secret.v1}/shares/{record['id']}", expect=204)
        assert ws.closed() and time.monotonic() - began < 3 * PATIENCE
    Edge(secret, headers={"Cookie": cookie}).get(expect=401)
    Edge(secret).get(path, expect=401)
    secret.client.delete(f"{secret.v1}/shares/{record['id']}", expect=404)


def test_made_private_at_run_time(secret):
    e = Edge(secret)
    assert secret.client.request("PATCH", secret.v1, json={"visibility": "public"},
                                 expect=200).json()["visibility"] == "public"
    e.get(expect=200)
    sockets = [e.upgrade() for _ in range(100)]
    mine = Edge(secret, headers={"X-Sandboxed-Token": "first-secret-1"}).upgrade()
    try:
        assert all(ws.status == 101 for ws in [*sockets, mine])
        began = time.monotonic()
        secret.client.request("PATCH", secret.v1, json={"visibility": "private"}, expect=200)
        assert all(ws.closed() for ws in sockets)
        assert time.monotonic() - began < 3 * PATIENCE
        mine.send(b"mine")
        assert mine.recv(4) == b"mine"
    finally:
        for ws in [*sockets, mine]:
            ws.close()
    e.get(expect=401)
    secret.client.request("PATCH", secret.v1, json={"visibility": "secret"}, expect=400)
    secret.client.request("PATCH", secret.v1, json={"image": "x"}, expect=400)


def test_other_tenants(secret):
    other = secret.daemon.client("second-secret-2")
    path, record = share(secret)
    other.post(secret.v1 + "/shares", {}, expect=404)
    other.get(secret.v1 + "/shares", expect=404)
    other.delete(f"{secret.v1}/shares/{record['id']}", expect=404)
    other.request("PATCH", secret.v1, json={"visibility": "public"}, expect=404)
    Edge(secret).get(expect=401)


def test_links_end_with_their_sandbox(secret, owner, make_sandbox):
    path, _ = share(secret)
    cookie = open_link(secret, path)
    owner.delete(f"/sandbox/{secret.id}", expect=204) # the row goes, the id may come back
    again = make_sandbox(daemon=secret.daemon, client=owner, id=secret.id, ports=[3000],
                         services=[service(3000)], visibility="private")
    Edge(again).get(path, expect=401)
    Edge(again, headers={"Cookie": cookie}).get(expect=401)


def test_pages_of_siblings(secret):
    path, _ = share(secret)
    cookie = open_link(secret, path)
    e = Edge(secret, headers={"Cookie": cookie})
    evil = {"Origin": f"http://s-{'0' * 26}-3000.preview.localhost"}
    e.post("/sum", raw=b"", headers=evil, expect=403)
    assert e.upgrade("/ws", f"Origin: {evil['Origin']}").status == 403
    e.post("/sum", raw=b"", headers={"Origin": f"http://{e.host}"}, expect=200)
