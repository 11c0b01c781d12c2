"""The OpenAPI document tells the truth: what is served is what was committed, each route answers as its schema says,
and each request shape refuses what the document refuses."""
import pathlib

import jsonschema
import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def document():
    return yaml.safe_load((ROOT / "openapi.yaml").read_text())


def schema_of(document, method, path, status):
    reply = document["paths"][path][method]["responses"].get(str(status))
    if reply is None:
        reply = document["paths"][path][method]["responses"][f"{status // 100}XX"]
    while "$ref" in reply:
        reply = document["components"]["responses"][reply["$ref"].rsplit("/", 1)[1]]
    content = reply.get("content", {}).get("application/json")
    return content and content["schema"]


def check(document, reply, method, path):
    schema = schema_of(document, method, path, reply.status)
    if schema is None:
        return
    whole = dict(schema, components=document["components"])
    jsonschema.Draft202012Validator(whole).validate(reply.json())


def test_served_as_committed(client):
    r = client.get("/openapi.yaml")
    assert r.status == 200 and r.body == (ROOT / "openapi.yaml").read_bytes()


def test_every_route_has_an_operation_and_answers_as_told(client, document, make_sandbox):
    box = make_sandbox(services=[{"name": "idle", "cmd": ["sleep", "1000"], "port": 3000}],
                       metadata={"a": "b"}, env={"K": "v"})
    base = f"/v1/sandboxes/{box.id}"
    p = client.post(base + "/processes", {"cmd": ["sleep", "1000"]})
    check(document, p, "post", "/v1/sandboxes/{id}/processes")
    assert p.status == 201
    fill = {"{id}": box.id, "{process}": p.json()["id"], "{service}": "idle"}
    seen = 0
    for path, operations in document["paths"].items():
        if "get" not in operations:
            continue
        url = path
        for name, value in fill.items():
            url = url.replace(name, value)
        replies = operations["get"]["responses"]
        endless = "101" in replies or "text/event-stream" in replies.get("200", {}).get("content", {})
        if "{" in url or url in ("/preview-auth", "/forward-auth") or endless:
            continue
        r = client.get(url, headers={"Accept": "*/*"})
        assert r.status in (200, 400), (path, r)
        check(document, r, "get", path)
        seen += r.status == 200
    assert seen >= 10
    for method, path, body in [("post", "/sandbox/{id}/exec", {"cmd": ["true"]}), ("post", "/v1/sandboxes/{id}/exec", {"cmd": "exit 3"}),
                               ("post", "/v1/sandboxes/{id}/services/{service}/restart", {}),
                               ("post", "/v1/sandboxes/{id}/pause", {}), ("post", "/v1/sandboxes/{id}/start", {}),
                               ("post", "/v1/sandboxes/{id}/keepalive", {}), ("post", "/v1/sandboxes/{id}/stop", {})]:
        url = path.replace("{id}", box.id).replace("{service}", "idle")
        r = client.post(url, body)
        assert r.status == 200, (path, r)
        check(document, r, method, path)
    for status in 204, 404:
        r = client.delete(base + "/services/idle", expect=status)
        check(document, r, "delete", "/v1/sandboxes/{id}/services/{service}")


def sample(schema):
    """A value of the right kind."""
    kinds = schema.get("type", "string")
    kind = kinds[0] if isinstance(kinds, list) else kinds
    return {"string": "x" * max(1, schema.get("minLength", 1)), "integer": schema.get("minimum", 1), "boolean": True, "array": [],
            "object": {}}[kind]


def wrong_values(schema):
    """Values that the schema refuses, one rule each."""
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "null" not in kinds:
        yield None
    if "integer" in kinds:
        yield from (schema["minimum"] - 1, schema["maximum"] + 1, "1", 1.5, True)
    elif "string" in kinds:
        yield from (1, ["x"], {})
        if "maxLength" in schema and schema["maxLength"] < 2000:
            yield "x" * (schema["maxLength"] + 1)
        if schema.get("minLength"):
            yield ""
        if "enum" in schema:
            yield "none-of-these"
    elif "boolean" in kinds:
        yield from ("true", 1)
    elif "array" in kinds:
        yield from ("x", {}, [{"no": "such"}] if schema["items"].get("type") != "object" else [1])
    elif "object" in kinds:
        yield from ("x", [1])


def test_what_the_document_refuses_is_refused_by_name(client, document, make_sandbox):
    box = make_sandbox()
    cases = 0
    for path, operations in document["paths"].items():
        if not path.startswith("/v1/"):
            continue
        for method, operation in operations.items():
            schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            if not schema or "properties" not in schema:
                continue
            url = path.replace("{id}", box.id).replace("{process}", box.id).replace("{service}", "idle")
            bad = [("no_such_field", 1)]
            for name, rule in schema["properties"].items():
                bad += [(name, v) for v in wrong_values(rule)] if "type" in rule else []
            for name, value in bad:
                body = {k: sample(schema["properties"][k]) for k in schema.get("required", [])}
                body[name] = value
                r = client.request(method.upper(), url, json=body)
                assert r.status == 400 and name in r.json()["error"]["message"], (path, name, value, r)
                check(document, r, method, path)
                cases += 1
    assert cases > 60
