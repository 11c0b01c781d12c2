"""The project names no image registry, no package mirror and no path of the machine it was written on."""
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from arch import fault, finish, tracked  # noqa: E402

FORBIDDEN = {
    "an image registry": r"\b(docker\.io/|index\.docker\.io|registry-1|registry\.hub|ghcr\.io|quay\.io"
                         r"|gcr\.io|public\.ecr)",
    "a package mirror": r"\b(deb\.debian\.org|archive\.ubuntu\.com|pypi\.org|registry\.npmjs)",
    "a path of a machine": r"(?<![\w.])(/work/(main|shared)|/root/\w|/Users/)",
}

for path in tracked():
    if path == pathlib.Path(__file__).resolve() or "corpus" in path.parts:
        continue
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        fault(path, "is not text")
        continue
    for what, pattern in FORBIDDEN.items():
        for m in re.finditer(pattern, text):
            fault(f"{path.name}:{text.count(chr(10), 0, m.start()) + 1}",
                  f"names {what}: {m.group(0)}")
finish()
