"""Every door and every source file says what it is before anything else, and every function of a door
is under a comment. One comment may stand over a group without blank lines; the head of the file speaks
for its first group; a cleanup helper (static inline auto_…) speaks for itself."""
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from arch import fault, files, finish  # noqa: E402

FUNCTION = re.compile(r"^(?!typedef|CFG|return)[A-Za-z_][\w \t*]*?\**\w+\(", re.M)

for path in files("include/*/*.h", "src/**/*.[ch]"):
    text = path.read_text()
    if not text.startswith("/*"):
        fault(path, "does not begin with a comment")
    if path.suffix != ".h" or "include" not in path.parts:
        continue
    groups = [b for b in re.split(r"\n[ \t]*\n", text) if FUNCTION.search(b)]
    for group in groups[1:]:
        first = FUNCTION.search(group).group(0)
        if "/*" not in group and not first.startswith("static inline void auto_"):
            fault(path, f"no comment over {first.rstrip('(').split()[-1].lstrip('*')}")
finish()
