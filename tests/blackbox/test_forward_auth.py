"""/preview-auth and /forward-auth, for a proxy of the operator's own: signed tokens, and nothing else."""
import base64
import hashlib
import hmac
import json
import time

import pytest

import sandboxd

KID, SECRET = "k1", "a-secret-that-signs-previews"
LOGIN = "https://login.example.test/?box={sandbox_id}&back={return}"


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(claims, head=None, secret=SECRET):
    head = {"alg": "HS256", "typ": "JWT", "kid": KID} if head is None else head
    text = b64(json.dumps(head).encode()) + "." + b64(json.dumps(claims).encode())
    return text + "." + b64(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest())


@pytest.fixture(scope="module")
def auth():
    d = sandboxd.Daemon(SANDBOXD_PREVIEW_TOKEN_SECRETS=f"old=unused-secret-of-before,{KID}={SECRET}",
                        SANDBOXD_AUTH_REDIRECT_URL=LOGIN)
    try:
        d.start()
        box = d.post("/sandbox", {"visibility": "private", "external": {"user_id": "ann"}}, expect=201)
        free = d.post("/sandbox", {}, expect=201)
        yield d, box.json()["id"], free.json()["id"]
    finally:
        d.close()


def claims(box, **changed):
    c = {"aud": "sandbox-preview", "sandbox_id": box, "sub": "ann", "exp": int(time.time()) + 300}
    c.update(changed)
    return {k: v for k, v in c.items() if v is not None}


def ask(d, box, token=None, uri="/x", port=3000):
    headers = {"X-Forwarded-Host": f"s-{box.lower()}-{port}.preview.localhost", "X-Forwarded-Uri": uri,
               "Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site"}
    if token:
        headers["Cookie"] = f"theme=dark; sandbox_preview={token}; other=1"
    return d.get("/forward-auth", headers=headers)


def test_public_and_unknown(auth):
    d, box, free = auth
    assert ask(d, free).status == 200
    assert ask(d, "01" + "Z" * 24).status == 404
    assert d.get("/forward-auth", headers={"X-Forwarded-Host": "www.example.test"}).status == 401
    assert d.get("/forward-auth").status == 401


def test_private_with_a_good_token(auth):
    d, box, _ = auth
    r = ask(d, box, sign(claims(box)))
    assert r.status == 200 and r.headers["x-sandbox-external-user-id"] == "ann"
    assert ask(d, box, sign(claims(box, aud=["x", "sandbox-preview"]))).status == 200


def test_without_a_token_the_visitor_is_sent_to_sign_in(auth):
    d, box, _ = auth
    r = ask(d, box, uri="/a?b=c")
    back = "https%3A%2F%2Fs-" + box.lower() + "-3000.preview.localhost%2Fa%3Fb%3Dc"
    assert r.status == 302
    assert r.headers["location"] == f"https://login.example.test/?box={box}&back={back}"


def mutants(box, other):
    good = sign(claims(box))
    head, body, mac = good.split(".")
    last = "A" if mac[-1] != "A" else "E"
    return {
        "expired": sign(claims(box, exp=int(time.time()) - 1)),
        "no exp": sign(claims(box, exp=None)),
        "exp as text": sign(claims(box, exp="2099")),
        "wrong audience": sign(claims(box, aud="other")),
        "no audience": sign(claims(box, aud=None)),
        "wrong user": sign(claims(box, sub="bob")),
        "no user": sign(claims(box, sub=None)),
        "wrong sandbox": sign(claims(other)),
        "no sandbox": sign(claims(box, sandbox_id=None)),
        "odd sandbox": sign(claims(box, sandbox_id="../x")),
        "alg none": sign(claims(box), head={"alg": "none", "kid": KID}),
        "alg HS512": sign(claims(box), head={"alg": "HS512", "kid": KID}),
        "alg missing": sign(claims(box), head={"kid": KID}),
        "kid missing": sign(claims(box), head={"alg": "HS256"}),
        "kid unknown": sign(claims(box), head={"alg": "HS256", "kid": "zz"}),
        "kid empty": sign(claims(box), head={"alg": "HS256", "kid": ""}),
        "crit": sign(claims(box), head={"alg": "HS256", "kid": KID, "crit": ["exp"]}),
        "other secret": sign(claims(box), secret="another-secret-altogether"),
        "empty secret": sign(claims(box), secret=""),
        "no signature": head + "." + body + ".",
        "two parts": head + "." + body,
        "four parts": good + ".x",
        "signature altered": good[:-1] + last,
        "signature padded": good + "=",
        "body altered": head + "." + b64(json.dumps(claims(box, sub="eve")).encode()) + "." + mac,
        "head altered": b64(b'{"alg":"HS256","kid":"old"}') + "." + body + "." + mac,
        "not base64": head + ".!!!." + mac,
        "not json": sign(claims(box), head={}).replace(".", ".", 1)[:3] + "." + body + "." + mac,
        "huge": head + "." + "A" * 5000 + "." + mac,
        "blank": "x",
    }


def test_every_mutant_is_sent_away(auth):
    d, box, free = auth
    for name, token in mutants(box, free).items():
        assert ask(d, box, token).status == 302, name
    assert ask(d, box, sign(claims(box))).status == 200


def test_preview_auth_makes_a_cookie_and_leads_only_to_that_preview(auth):
    d, box, free = auth
    token = sign(claims(box))
    base = f"https://s-{box.lower()}-3000.preview.localhost"

    def go(back, t=token):
        from urllib.parse import quote
        return d.get(f"/preview-auth?token={quote(t)}&return={quote(back, safe='')}")

    r = go(base + "/path?x=1")
    assert r.status == 302 and r.headers["location"] == base + "/path?x=1"
    cookie = r.headers["set-cookie"]
    assert cookie.startswith(f"sandbox_preview={token}; Path=/; Domain=preview.localhost; Max-Age=")
    assert cookie.endswith("HttpOnly; Secure; SameSite=Lax") and r.headers["referrer-policy"] == "no-referrer"
    for back in ["https://evil.example/", f"https://s-{free.lower()}-3000.preview.localhost/", "//evil.example",
                 "javascript:alert(1)", base + ".evil.example/", base + "@evil.example/", base + "\\@evil",
                 base.replace("https://", "https:/"), "/\\evil", base + "/\r\nX: y", base.replace("-3000", "-0"),
                 base.replace("-3000", "-99999")]:
        assert go(back).status == 400, back
    assert go(base, sign(claims(box, exp=1))).status == 302
    assert "set-cookie" not in go(base, "garbage").headers
