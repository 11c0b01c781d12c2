"""Idempotency-Key: a retry is the same request, whatever happened to the first (P-2, F-19)."""

import time

import pytest

from sandboxd import PATIENCE, Sandbox, new_id, together

pytestmark = pytest.mark.quick


def create(client, key, body, path="/v1/sandboxes"):
    return client.post(path, body, headers={"Idempotency-Key": key})


def retried(client, key, body):
    """As a client would: again and again while the first is under way."""
    end = time.monotonic() + 30 * PATIENCE
    while True:
        reply = create(client, key, body)
        if reply.status != 409 or reply.code != "request_in_progress":
            return reply
        assert reply.headers["Retry-After"] == "1" and time.monotonic() < end
        time.sleep(0.05) # a hundred of them leave the first some time


@pytest.mark.concurrent
def test_a_hundred_at_once_make_one_and_all_hear_the_same(daemon):
    key = new_id()
    body = {"metadata": {"key": key}}
    replies = together(*[lambda: retried(daemon.client(), key, body)] * 100)
    assert {r.status for r in replies} == {201}
    assert len({r.body for r in replies}) == 1
    made = daemon.get(f"/v1/sandboxes?metadata.key={key}").json()["sandboxes"]
    assert [s["id"] for s in made] == [replies[0].json()["id"]]
    box = Sandbox(daemon, made[0]["id"])
    assert len(daemon.containers(box.id)) == 1
    # Also when the sandbox has gone on living.
    box.stop()
    again = create(daemon, key, body)
    assert (again.status, again.body) == (201, replies[0].body)
    box.purge()


def test_another_body_is_refused(daemon):
    key = new_id()
    first = create(daemon, key, {"metadata": {"a": "1"}}).expect(201)
    for other in {"metadata": {"a": "2"}}, {}, {"metadata": {"a": "1"}, "visibility": "private"}:
        reply = create(daemon, key, other)
        assert reply.status == 422 and reply.code == "idempotency_mismatch"
    assert create(daemon, key, {"metadata": {"a": "1"}}).body == first.body
    Sandbox(daemon, first.json()["id"]).purge()


def test_tenants_have_their_own_keys_and_a_restart_forgets_none(make_daemon):
    d = make_daemon(SANDBOXD_API_AUTH_DISABLED=None, SANDBOXD_API_TOKENS="a:secret-a,b:secret-b")
    a, b = d.client("secret-a"), d.client("secret-b")
    key = new_id()
    first = create(a, key, {}).expect(201)
    other = create(b, key, {"visibility": "private"}).expect(201)
    assert first.json()["id"] != other.json()["id"]
    d.kill9()
    d.start()
    again = create(a, key, {})
    assert (again.status, again.body) == (201, first.body)
    assert create(b, key, {"visibility": "private"}).body == other.body
    assert create(b, key, {}).status == 422
    assert [s["id"] for s in a.get("/v1/sandboxes").json()["sandboxes"]] == [first.json()["id"]]


def test_a_refused_request_leaves_its_key_free(daemon):
    key = new_id()
    assert create(daemon, key, {"limits": {"pids": 1}}).status == 400
    box = Sandbox(daemon, create(daemon, key, {}).expect(201).json()["id"])
    box.purge()


def test_legacy_create_takes_keys_too(daemon):
    key = new_id()
    first = create(daemon, key, {"ports": []}, "/sandbox").expect(201)
    again = create(daemon, key, {"ports": []}, "/sandbox")
    assert (again.status, again.body) == (201, first.body)
    Sandbox(daemon, first.json()["id"]).purge()


@pytest.mark.parametrize("key", ["", "x" * 256, "a b\x7f", "a\tb", "caf\u00e9"])
def test_bad_keys(daemon, key):
    reply = daemon.call("POST", "/v1/sandboxes", raw=b"{}",
                        headers={"Idempotency-Key": key.encode("utf-8")})
    if reply.status == 201: # a harmless character that is simply taken
        Sandbox(daemon, reply.json()["id"]).purge()
        assert key and len(key) <= 255
    else:
        message = reply.json()["error"]["message"]
        assert reply.status == 400 and ("Idempotency-Key" in message or "header value" in message)
