"""The README's five minutes, line by line as they stand; only the two addresses are this test's."""
import pathlib
import re
import subprocess

import sandboxd

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_five_minutes_work_as_written():
    text = (ROOT / "README.md").read_text()
    block = re.search(r"<!-- tour -->\n```sh\n(.*?)```\n<!-- /tour -->", text, re.S).group(1)
    edge = sandboxd.free_port()
    d = sandboxd.Daemon(SANDBOXED_EDGE_BIND=f"127.0.0.1:{edge}")
    try:
        d.start()
        script = block.replace("API=http://127.0.0.1:9090\n", f"API=http://127.0.0.1:{d.port}\n")
        assert script != block
        run = subprocess.run(["bash", "-eu", "-o", "pipefail", "-c", script], capture_output=True, text=True,
                             timeout=120, env={"PATH": "/usr/bin:/bin", "PREVIEW": f"http://127.0.0.1:{edge}"})
        assert run.returncode == 0, run
        out = run.stdout
        for said in ['"status":"running"', '"metadata":{"who":"me"}', "sandbox\\n/home/sandbox/workspace\\n",
                     'event: stdout\ndata: {"data":"3\\n"}', "event: exit", '"path":"index.html"', '"service":"web"',
                     '"status":"running","cmd":["python3"', '"awake_because":']:
            assert said in out, (said, out)
        assert out.count("<h1>hello</h1>") == 3, out # as a file, awake, and out of its sleep
        assert d.get("/v1/sandboxes").json()["sandboxes"] == []
    finally:
        d.close()
