"""What is printed from the code's tables is fresh: README.md between <!-- env --> and <!-- /env -->,
and between <!-- routes --> and <!-- /routes -->; the states in ARCHITECTURE.md; the whole of
.env.example, openapi.yaml and the manual page."""
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
map_text = (SOURCE / "ARCHITECTURE.md").read_text()
if output("--print-states").strip() not in map_text:
    fault("ARCHITECTURE.md", "states are stale: paste `sandboxd --print-states`")
for name, option in {".env.example": "--print-env", "openapi.yaml": "--print-openapi",
                     "docs/sandboxd.1": "--print-man"}.items():
    path = SOURCE / name
    if not path.exists() or path.read_text() != output(option):
        fault(name, f"stale: `sandboxd {option} > {name}`")
finish()
