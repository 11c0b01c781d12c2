"""What is printed from the code's tables is fresh: README.md between <!-- env --> and <!-- /env -->,
and between <!-- routes --> and <!-- /routes -->; the whole of .env.example."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from arch import SOURCE, fault, finish, output  # noqa: E402

TABLES = {"env": "--print-env", "routes": "--print-routes"}

readme = (SOURCE / "README.md").read_text()
for name, option in TABLES.items():
    head, found, rest = readme.partition(f"<!-- {name} -->")
    body, end, _ = rest.partition(f"<!-- /{name} -->")
    if not found or not end:
        fault("README.md", f"no <!-- {name} --> … <!-- /{name} -->")
    elif body.strip() != output(option, "--markdown").strip():
        fault("README.md", f"table {name} is stale: paste `sandboxd {option} --markdown`")
example = SOURCE / ".env.example"
if not example.exists() or example.read_text() != output("--print-env"):
    fault(".env.example", "stale: `sandboxd --print-env > .env.example`")
finish()
