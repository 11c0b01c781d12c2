"""The life of a sandbox: create, look, stop, start, delete, purge, and what happens at once."""

import json
import re
import socket
import threading
import time
import urllib.parse

import pytest

from sandboxd import (IMAGE, IMAGE_BARE, IMAGE_MUSL, PATIENCE, SLOW, Daemon, Sandbox, list_all, new_id,
                      raw_exchange, together, until)

MISSING = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
MS_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
S_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture(scope="module")
def box(_shared):
    """A running sandbox with every field set; tests leave it running."""
    fields = {
        "ports": [8080, 3000, 3000], "env": {"SECRET": "s3cr3t-canary", "A": "b"},
        "limits": {"memory_mib": 256, "cpus": 0.5, "pids": 128, "disk_mib": 64},
        "idle_policy": "always_on", "visibility": "private", "memory_high": "1G",
        "metadata": {"team": "x.y", "\u20ac": "caf\u00e9"},
        "external": {"user_id": "u 1", "project_id": "p/1", "workspace_id": "w?1"},
    }
    box = Sandbox.create(_shared, **fields)
    yield box
    box.purge(expect=(204, 404))


def engine_state(daemon, box_id):
    """What the Engine says of a sandbox's containers."""
    return [c["State"] for c in daemon.containers(box_id)]


# --- creating and looking ---


@pytest.mark.quick
def test_v1_object(daemon, box):
    made = box.created
    assert ULID.fullmatch(made["id"]) and made["id"] == made["id"].upper()
    assert (made["status"], made["image"]) == ("running", IMAGE)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", made["image_digest"])
    assert made["external"] == {"user_id": "u 1", "project_id": "p/1", "workspace_id": "w?1"}
    assert (made["visibility"], made["idle_policy"]) == ("private", "always_on")
    limits = made["limits"]
    assert {k: limits[k] for k in ("memory_mib", "cpus", "pids", "disk_mib")} == {
        "memory_mib": 256, "cpus": 0.5, "pids": 128, "disk_mib": 64}
    assert limits["nofile"] >= 256
    low = box.id.lower()
    assert [{"port": p["port"], "url": p["url"]} for p in made["ports"]] == [
        {"port": p, "url": f"http://s-{low}-{p}.preview.localhost"} for p in (3000, 8080)]
    assert made["preview"]["url"] == f"http://s-{low}-3000.preview.localhost"
    assert sorted(made["env"]) == ["A", "SECRET"]
    assert made["metadata"] == {"team": "x.y", "\u20ac": "caf\u00e9"}
    assert made["disk"]["enforced"] == "none" and made["disk"]["limit"] == 64 << 20
    assert made["error"] is None and made["stopped_at"] is None
    for name in "created_at", "updated_at", "last_active_at":
        assert MS_TIME.fullmatch(made[name]), name
    got = box.get()
    assert got.keys() == made.keys() and got["id"] == made["id"]
    until(lambda: box.get() in daemon.get("/v1/sandboxes").json()["sandboxes"], # but for what is measured
          what="the list says the same")
    lower = daemon.get(f"/v1/sandboxes/{low}").expect(200).json()
    assert lower["id"] == made["id"], "an id is taken in any case"


@pytest.mark.quick
def test_legacy_object(daemon, box):
    got = daemon.get(f"/sandbox/{box.id}").expect(200).json()
    row = got["row"]
    assert (row["id"], row["status"], row["image"]) == (box.id, "running", IMAGE)
    assert row["workspace_mnt"] == row["workspace_img"] == str(daemon.workspace(box.id))
    assert re.fullmatch(r"[0-9a-f]{12}|[0-9a-f]{64}", row["container_id"])
    assert daemon.container(box.id).startswith(row["container_id"])
    assert (row["memory_high"], row["ports"]) == ("1G", [3000, 8080])
    assert S_TIME.fullmatch(row["created_at"]) and S_TIME.fullmatch(row["updated_at"])
    assert abs(row["last_active_at"] - time.time()) < 300 and row["container_ip"] == ""
    assert "stopped_at" not in row and "keepalive_until" not in row and "error_message" not in row
    assert (row["external_user_id"], row["external_project_id"], row["external_workspace_id"]) == (
        "u 1", "p/1", "w?1")
    assert (row["visibility"], row["idle_policy"]) == ("private", "always_on")
    live = got["live_state"]
    assert live["State"]["Running"] is True and live["Id"].startswith(row["container_id"])
    until(lambda: daemon.get(f"/sandbox/{box.id}").json()["row"] in daemon.get("/sandboxes").json(),
          what="the list says the same")
    query = urllib.parse.urlencode({"external_user_id": "u 1", "external_project_id": "p/1"})
    assert [r["id"] for r in daemon.get("/sandboxes?" + query).json()] == [box.id]
    assert daemon.get("/sandboxes?external_user_id=nobody").json() == []


@pytest.mark.quick
def test_secrets_are_told_to_nobody(daemon, engine, box):
    """T-50: values of env are in no reply, no log, no inspect and no argument list."""
    canary = "s3cr3t-canary"
    assert box.exec("echo -n $SECRET")["stdout"] == canary
    for path in (f"/v1/sandboxes/{box.id}", f"/sandbox/{box.id}", "/v1/sandboxes", "/sandboxes",
                 "/metrics", "/readyz"):
        assert canary not in daemon.get(path).text, path
    assert canary not in json.dumps(engine.inspect(box.container))
    assert canary not in daemon.log()
    with daemon.client().stream("POST", f"/sandbox/{box.id}/exec",
                                {"cmd": ["sleep", "30"]}, headers={"Accept": "text/event-stream"}):
        got = box.exec("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        assert "sleep 30" in got["stdout"] and canary not in got["stdout"]


@pytest.mark.quick
def test_defaults_of_both_routes(daemon, make_sandbox):
    v1 = make_sandbox()
    assert [p["port"] for p in v1.created["ports"]] == [3000]
    assert (v1.created["visibility"], v1.created["idle_policy"]) == ("public", "sleep")
    assert v1.created["limits"]["memory_mib"] == 2048 and v1.created["limits"]["cpus"] == 2
    assert v1.created["env"] == [] and v1.created["metadata"] == {}
    v1.purge()
    reply = daemon.call("POST", "/sandbox", raw=b"")
    row = reply.expect(201).json()
    legacy = Sandbox(daemon, row["id"])
    try:
        assert (row["status"], row["ports"], row["memory_high"]) == ("running", [], "4G")
        assert row["external_user_id"] == "local"
        assert legacy.get()["ports"] == [] and legacy.get()["preview"] is None
    finally:
        legacy.purge()
    reply = daemon.post("/sandbox", {"unknown": 1, "ports": []}).expect(201)
    Sandbox(daemon, reply.json()["id"]).purge()


@pytest.mark.quick
def test_missing_sandboxes_are_404_on_every_route(daemon):
    for method, path in [
        ("GET", "/sandbox/{}"), ("DELETE", "/sandbox/{}"), ("POST", "/sandbox/{}/exec"),
        ("POST", "/sandbox/{}/keepalive"), ("POST", "/sandbox/{}/purge"),
        ("GET", "/v1/sandboxes/{}"), ("DELETE", "/v1/sandboxes/{}"),
        ("POST", "/v1/sandboxes/{}/start"), ("POST", "/v1/sandboxes/{}/stop"),
        ("GET", "/v1/sandboxes/{}/files"), ("PUT", "/v1/sandboxes/{}/files?path=a"),
        ("DELETE", "/v1/sandboxes/{}/files?path=a"),
        ("GET", "/v1/sandboxes/{}/files/content?path=a"),
    ]:
        body = {"cmd": ["true"]} if path.endswith("exec") else None
        reply = daemon.call(method, path.format(MISSING), body).expect(404)
        error = reply.json()["error"]
        if path.startswith("/v1"):
            assert error["code"] == "not_found" and error["retryable"] is False
        else:
            assert isinstance(error, str)


# --- stop, start, delete, purge ---


@pytest.mark.quick
def test_stop_and_start_keep_the_workspace_and_nothing_else(daemon, box):
    box.exec("echo kept > ~/kept; echo lost > /tmp/lost")
    box.exec("sleep", "300", detach=True)
    first = daemon.container(box.id)
    stopped = box.stop().json()
    assert stopped["status"] == "stopped" and MS_TIME.fullmatch(stopped["stopped_at"])
    assert box.stop().json()["status"] == "stopped", "stopped already is success"
    assert "running" not in engine_state(daemon, box.id)
    row = daemon.get(f"/sandbox/{box.id}").json()["row"]
    assert row["status"] == "stopped" and abs(row["stopped_at"] - time.time()) < 60
    started = box.start().json()
    assert (started["status"], started["stopped_at"]) == ("running", None)
    assert box.start().json()["status"] == "running", "running already is success"
    assert engine_state(daemon, box.id) == ["running"], first
    got = box.exec("cat ~/kept; ls /tmp; ps -e | grep -c sleep")
    assert got["stdout"] == "kept\n0\n"


@pytest.mark.quick
def test_delete_keeps_the_workspace_and_the_id_finds_it_again(daemon, make_sandbox):
    box = make_sandbox(external={"user_id": "first-user"})
    box.exec("echo mine > ~/mine")
    assert daemon.delete(f"/sandbox/{box.id}").expect(204).body == b""
    daemon.get(f"/v1/sandboxes/{box.id}").expect(404)
    daemon.delete(f"/sandbox/{box.id}").expect(404)
    assert daemon.containers(box.id) == [] and (box.workspace / "mine").read_text() == "mine\n"
    reply = daemon.post("/v1/sandboxes", {"id": box.id, "external": {"user_id": "other"}})
    assert reply.status == 409 and "first-user" not in reply.text, reply
    again = daemon.post("/v1/sandboxes",
                        {"id": box.id.lower(), "external": {"user_id": "first-user"}})
    assert again.expect(201).json()["id"] == box.id
    assert box.exec("cat ~/mine")["stdout"] == "mine\n"
    reply = daemon.post("/v1/sandboxes", {"id": box.id, "external": {"user_id": "first-user"}})
    assert reply.status == 409 and reply.code == "conflict"
    assert daemon.post("/sandbox", {"id": box.id}).status == 409


@pytest.mark.quick
def test_purge_leaves_nothing(daemon, make_sandbox):
    box = make_sandbox()
    box.put_file("big", b"x" * 300000)
    got = daemon.post(f"/sandbox/{box.id}/purge").expect(200).json()
    assert got["purged"] is True and got["freed_bytes"] >= 300000
    assert daemon.containers(box.id) == [] and not box.workspace.exists()
    assert not list(box.workspace.parent.glob(f"*{box.id}*"))
    daemon.post(f"/sandbox/{box.id}/purge").expect(404)
    daemon.delete(f"/v1/sandboxes/{box.id}").expect(404)
    # A purge also ends what DELETE left: the workspace without a row.
    box = make_sandbox()
    daemon.delete(f"/sandbox/{box.id}").expect(204)
    assert daemon.delete(f"/v1/sandboxes/{box.id}").expect(204).body == b""
    assert not box.workspace.exists()
    again = make_sandbox(id=box.id)
    assert again.exec("ls -A ~ | grep -c .")["exit_code"] == 0, "seeded anew"


@pytest.mark.quick
def test_a_stopped_sandbox_can_be_deleted_and_purged(daemon, make_sandbox):
    box = make_sandbox()
    box.stop()
    daemon.delete(f"/sandbox/{box.id}").expect(204)
    box = make_sandbox(id=box.id)
    box.stop()
    box.purge()
    assert daemon.containers(box.id) == [] and not box.workspace.exists()


@pytest.mark.quick
def test_keepalive(daemon, box):
    now = time.time()
    got = daemon.post(f"/sandbox/{box.id}/keepalive").expect(200).json()
    assert got["id"] == box.id and abs(got["keepalive_until"] - now - 3600) < 60
    until_s = int(now) + 1234
    got = daemon.post(f"/sandbox/{box.id}/keepalive", {"until": until_s}).expect(200).json()
    assert got["keepalive_until"] == until_s
    assert daemon.get(f"/sandbox/{box.id}").json()["row"]["keepalive_until"] == until_s
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(until_s))
    assert box.get()["keepalive_until"] == stamp
    got = daemon.post(f"/sandbox/{box.id}/keepalive", {"until": until_s + 10 ** 7}).json()
    assert abs(got["keepalive_until"] - now - 86400) < 60, "clamped"
    for bad in (1, int(now) - 10, -5, "x", 1.5, 10 ** 18, [], True):
        reply = daemon.post(f"/sandbox/{box.id}/keepalive", {"until": bad})
        assert reply.status == 400 and "until" in reply.json()["error"], (bad, reply)
    assert daemon.call("POST", f"/sandbox/{box.id}/keepalive", raw=b"nope").status == 400


# --- lists ---


@pytest.fixture(scope="module")
def many_rows():
    """A daemon with 25 rows that cost no container: their image is missing, they end in error."""
    with Daemon(SANDBOXD_IMAGE="sandboxed-test-missing:1", SANDBOXD_IMAGES=IMAGE).start() as d:
        for n in range(25):
            reply = d.post("/v1/sandboxes", {
                "metadata": {"n": str(n), "parity": str(n % 2), "a.b&c=d": "\u20ac %"},
                "external": {"user_id": f"u{n % 3}", "project_id": f"p{n % 2}"}})
            assert reply.status >= 400
        yield d


def ids(reply):
    return [s["id"] for s in reply.expect(200).json()["sandboxes"]]


def test_paging_shows_each_once_newest_first(many_rows):
    d = many_rows
    whole = d.get("/v1/sandboxes").expect(200).json()
    assert whole["next_cursor"] is None and len(whole["sandboxes"]) == 25
    made = [s["created_at"] for s in whole["sandboxes"]]
    assert made == sorted(made, reverse=True)
    assert [s["metadata"]["n"] for s in whole["sandboxes"]] == [str(n) for n in range(24, -1, -1)]
    order = [s["id"] for s in whole["sandboxes"]]
    for limit in 1, 4, 5, 24, 25, 26, 1000:
        seen, cursor, pages = [], None, 0
        while True:
            query = f"limit={limit}" + (f"&cursor={urllib.parse.quote(cursor)}" if cursor else "")
            page = d.get("/v1/sandboxes?" + query).expect(200).json()
            assert len(page["sandboxes"]) <= limit
            seen += [s["id"] for s in page["sandboxes"]]
            cursor, pages = page["next_cursor"], pages + 1
            if cursor is None:
                break
        assert seen == order and pages == -(-25 // limit), limit
    legacy = d.get("/sandboxes").expect(200).json()
    assert [r["id"] for r in legacy] == order and {r["status"] for r in legacy} == {"error"}


def test_a_page_goes_on_where_it_was_when_rows_come_and_go(many_rows):
    d = many_rows
    order = ids(d.get("/v1/sandboxes"))
    first = d.get("/v1/sandboxes?limit=5").json()
    new = new_id()
    assert d.post("/v1/sandboxes", {"id": new}).status >= 400
    last_seen = first["sandboxes"][-1]["id"]
    d.delete(f"/v1/sandboxes/{last_seen}").expect(204)
    seen = list_from(d, first["next_cursor"])
    d.delete(f"/v1/sandboxes/{new}").expect(204)
    assert seen == order[5:]


def list_from(d, cursor):
    seen = []
    while cursor:
        page = d.get(f"/v1/sandboxes?limit=7&cursor={urllib.parse.quote(cursor)}").json()
        seen += [s["id"] for s in page["sandboxes"]]
        cursor = page["next_cursor"]
    return seen


def test_filters(many_rows):
    d = many_rows
    rows = d.get("/v1/sandboxes").json()["sandboxes"]

    def want(test):
        return [s["id"] for s in rows if test(s)]

    for query, test in [
        ("status=error", lambda s: True), ("status=running", lambda s: False),
        ("external_user_id=u1", lambda s: s["external"]["user_id"] == "u1"),
        ("external_project_id=p0", lambda s: s["external"]["project_id"] == "p0"),
        ("external_user_id=u1&external_project_id=p0",
         lambda s: (s["external"]["user_id"], s["external"]["project_id"]) == ("u1", "p0")),
        ("metadata.parity=1", lambda s: s["metadata"]["parity"] == "1"),
        ("metadata.n=7", lambda s: s["metadata"]["n"] == "7"),
        ("metadata.n=", lambda s: False), ("metadata.nope=1", lambda s: False),
        ("external_user_id=u1'%20or%201=1--", lambda s: False),
        ("external_user_id=u%25", lambda s: False),
        ("metadata.a.b%26c%3Dd=" + urllib.parse.quote("\u20ac %"), lambda s: True),
        ("status=error&external_user_id=u0&metadata.parity=0",
         lambda s: s["external"]["user_id"] == "u0" and s["metadata"]["parity"] == "0"),
    ]:
        assert ids(d.get("/v1/sandboxes?" + query)) == want(test), query
    paged = [s["id"] for s in list_all(d.client(), "metadata.parity=0")]
    assert paged == want(lambda s: s["metadata"]["parity"] == "0")


# --- failures ---


def test_a_failed_create_leaves_a_row_with_its_cause_and_start_tries_again(engine, make_daemon):
    image = f"sandboxed-test-late-{new_id().lower()}:1"
    d = make_daemon(SANDBOXD_IMAGES=image)
    wanted = new_id()
    reply = d.post("/v1/sandboxes", {"id": wanted, "image": image})
    assert reply.status >= 400 and image in reply.json()["error"]["message"], reply
    got = d.get(f"/v1/sandboxes/{wanted}").expect(200).json()
    assert got["status"] == "error" and image in got["error"]["message"]
    row = d.get(f"/sandbox/{wanted}").json()
    assert row["row"]["status"] == "error" and image in row["row"]["error_message"]
    assert row["live_state"] is None and d.containers() == []
    assert d.post(f"/sandbox/{wanted}/exec", {"cmd": ["true"]}).status >= 400
    repo, tag = image.split(":")
    engine.call("POST", f"/images/{IMAGE}/tag", query={"repo": repo, "tag": tag}, expect=201)
    try:
        started = d.post(f"/v1/sandboxes/{wanted}/start").expect(200).json()
        assert (started["status"], started["error"]) == ("running", None)
        assert Sandbox(d, wanted).exec("echo up")["stdout"] == "up\n"
        d.delete(f"/v1/sandboxes/{wanted}").expect(204)
    finally:
        engine.call("DELETE", f"/images/{image}", expect=(200, 404))


def test_a_client_that_leaves_does_not_abort_its_create(daemon):
    for linger in False, True:
        wanted = new_id()
        body = json.dumps({"id": wanted}).encode()
        with socket.create_connection(daemon.address) as s:
            s.sendall(b"POST /v1/sandboxes HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
                      b"%d\r\n\r\n" % len(body) + body)
            box = Sandbox(daemon, wanted)
            until(lambda: daemon.get(box.v1).status == 200, 10, "it is begun")
            if linger:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        until(lambda: box.status == "running", 10,
              "the sandbox runs all the same")
        assert box.exec("true")["exit_code"] == 0
        box.purge()


def test_images_limits_and_quota(make_daemon):
    d = make_daemon(SANDBOXD_SANDBOXES_MAX="2", SANDBOXD_MEMORY_MIB_MAX="512",
                    SANDBOXD_MEMORY_MIB="256", SANDBOXD_IMAGE="sandboxed-test-missing:1",
                    SANDBOXD_IMAGES=IMAGE)
    assert d.post("/v1/sandboxes", {"limits": {"memory_mib": 513}}).status == 400
    replies = together(*[lambda: d.client().post("/v1/sandboxes", {}) for _ in range(12)])
    refused = [r for r in replies if r.status == 429]
    assert len(refused) == 10, [r.status for r in replies]
    for r in refused:
        assert r.code == "quota_exceeded" and int(r.headers["Retry-After"]) >= 1
    rows = d.get("/v1/sandboxes").json()["sandboxes"]
    assert len(rows) == 2
    d.delete(f"/v1/sandboxes/{rows[0]['id']}").expect(204)
    assert d.post("/v1/sandboxes", {}).status != 429, "a slot is free again"
    assert d.post("/v1/sandboxes", {}).status == 429


# --- at the same time ---


@pytest.mark.concurrent
def test_creates_of_one_id_make_one_sandbox(daemon):
    wanted = new_id()
    replies = together(*[lambda: daemon.client().post("/v1/sandboxes", {"id": wanted})] * 8)
    assert sorted(r.status for r in replies) == [201] + [409] * 7
    assert engine_state(daemon, wanted) == ["running"]
    Sandbox(daemon, wanted).purge()


@pytest.mark.concurrent
def test_creates_of_one_project_make_one_sandbox(daemon):
    project = {"id": f"project-{new_id()}", "user_id": "u"}
    replies = together(*[lambda: daemon.client().post("/v1/sandboxes", {"project": project})] * 6)
    assert sorted(r.status for r in replies) == [200] * 5 + [201], replies
    assert len({r.json()["id"] for r in replies}) == 1
    box = Sandbox(daemon, replies[0].json()["id"])
    again = daemon.post("/v1/sandboxes", {"project": project}).expect(200).json()
    assert again["id"] == box.id
    assert again["external"] == {"user_id": "u", "project_id": project["id"], "workspace_id": None}
    box.purge()
    fresh = daemon.post("/v1/sandboxes", {"project": project}).expect(201).json()
    assert fresh["id"] != box.id
    Sandbox(daemon, fresh["id"]).purge()


def settled(daemon, box_id):
    """The row (None: gone) once it is in no -ING state, with the Engine of the same opinion."""
    def look():
        reply = daemon.get(f"/v1/sandboxes/{box_id}")
        if reply.status == 404:
            return None, engine_state(daemon, box_id) == []
        status = reply.json()["status"]
        running = engine_state(daemon, box_id) == ["running"]
        return status, status in ("running", "stopped") and running == (status == "running")

    until(lambda: look()[1], 15, f"row and Engine agree: {look()}")
    return look()[0]


@pytest.mark.concurrent
def test_pairs_of_calls_on_one_id_give_one_legal_outcome(daemon, make_sandbox):
    """F-20: whoever is first, each caller hears the truth and nothing is left half done."""
    def call(method, path):
        return lambda box: daemon.client().request(method, path.format(box.id))

    start = call("POST", "/v1/sandboxes/{}/start")
    stop = call("POST", "/v1/sandboxes/{}/stop")
    delete = call("DELETE", "/sandbox/{}")
    purge = call("DELETE", "/v1/sandboxes/{}")
    legal = {start: (200, 404, 409), stop: (200, 404, 409), delete: (204, 404, 409),
             purge: (204, 404, 409)}
    box = make_sandbox()
    for pair in [(start, start), (stop, stop), (start, stop), (stop, start), (stop, delete),
                 (start, delete), (delete, delete), (delete, purge), (purge, purge),
                 (start, purge), (start, stop, delete, purge), (start, stop, start, stop)]:
        if daemon.get(box.v1).status == 404:
            daemon.post("/v1/sandboxes", {"id": box.id}).expect(201)
        replies = together(*[lambda c=c: c(box) for c in pair])
        for c, reply in zip(pair, replies):
            assert reply.status in legal[c], (pair, replies)
        state = settled(daemon, box.id)
        ended = {r.status for c, r in zip(pair, replies) if c in (delete, purge)}
        if 204 in ended:
            assert state is None, (pair, replies)
        if any(c is purge and r.status == 204 for c, r in zip(pair, replies)):
            assert not box.workspace.exists()
        if set(pair) == {start}:
            assert [r.status for r in replies] == [200, 200] and state == "running"
        if set(pair) == {stop}:
            assert [r.status for r in replies] == [200, 200] and state == "stopped"


@pytest.mark.concurrent
def test_execs_while_the_sandbox_is_ended(daemon, make_sandbox):
    """A command under way when its sandbox stops or goes is answered, soon and truly."""
    box = make_sandbox()
    for end in box.stop, box.purge:
        gone = until(lambda: box.exec("echo up")["stdout"] == "up\n", 10, "awake") and []
        calls = [lambda: gone.append(daemon.client().post(
            f"/sandbox/{box.id}/exec", {"cmd": "echo started; sleep 300"}))] * 4
        began = time.monotonic()

        def end_it():
            # All of them: one that came later would wake it again.
            until(lambda: box.exec("ps -eo args")["stdout"].splitlines().count("sleep 300") == len(calls),
                  10, "commands run")
            end()

        together(*calls, end_it)
        assert time.monotonic() - began < 15 * PATIENCE
        for reply in gone:
            if reply.status == 200:
                assert reply.json()["exit_code"] >= 128, reply
            else:
                assert reply.status in (404, 409, 503), reply


@pytest.mark.quick
def test_other_images(daemon, make_sandbox):
    for image in IMAGE_MUSL, IMAGE_BARE:
        box = make_sandbox(image=image)
        assert box.created["image"] == image
        assert box.exec("/bin/hello", "x")["stdout"] == "hello\n"
        box.purge()


def test_metrics_and_health(daemon, box):
    assert daemon.get("/healthz").body == b"ok\n"
    assert daemon.get("/readyz").body == b"ready\n"
    reply = daemon.get("/metrics").expect(200)
    assert reply.headers["Content-Type"].startswith("text/plain")
    text = reply.text
    assert re.search(r'^sandboxd_sandboxes_total\{status="running"\} [1-9]', text, re.M), text
    for phase in ("queue", "workspace", "engine", "agent", "services", "total"):
        assert re.search(rf'_wake_duration_seconds_count\{{phase="{phase}"\}} [1-9]', text), text
    for line in text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) .+|[a-z_]+(\{[a-z_]+=.*\})? [0-9.e+-]+", line), line
    assert box.id not in text and box.id.lower() not in text, "labels do not grow with sandboxes"


def test_answers_while_creates_are_under_way(engine_proxy, make_daemon):
    """A create blocks its own client only."""
    d = make_daemon(DOCKER_HOST=engine_proxy.docker_host)
    Sandbox.create(d) # the image is known, then
    go_on = threading.Event()

    def held(x):
        go_on.wait(60 * SLOW)
        x.send(x.forward())

    rule = engine_proxy.on("^POST /containers/create", held)

    def look():
        try:
            until(lambda: rule.hits == 4, what="four creates are under way")
            client = d.client()
            for _ in range(100):
                listed = client.get("/v1/sandboxes", expect=200).json()["sandboxes"]
                assert sum(s["status"] == "running" for s in listed) == 1
        finally:
            go_on.set()

    together(*[lambda: d.client().post("/v1/sandboxes", {}).expect(201)] * 4, look)


def test_pipelined_create_is_answered_once(daemon):
    wanted = new_id()
    body = json.dumps({"id": wanted}).encode()
    one = (b"POST /v1/sandboxes HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
           % len(body))
    replies, _ = raw_exchange(daemon, one + b"\r\n" + body + one + b"Connection: close\r\n\r\n"
                              + body, timeout=60)
    assert [r.status for r in replies] == [201, 409]
    Sandbox(daemon, wanted).purge()
