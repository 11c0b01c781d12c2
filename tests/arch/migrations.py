"""A migration is never edited once it was shipped: its hash is kept in migrations.sha256. Numbers have
no gap. A new migration adds a line here in its own commit (sha256sum of the file)."""
import hashlib
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from arch import SOURCE, fault, files, finish  # noqa: E402

kept = {}
for line in (SOURCE / "tests/arch/migrations.sha256").read_text().splitlines():
    digest, name = line.split()
    kept[name] = digest
found = files("src/store/sql/migrations/*.sql")
for number, path in enumerate(found, 1):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not path.name.startswith(f"{number:04d}_"):
        fault(path, f"is not number {number:04d}")
    if path.name not in kept:
        fault(path, f"is not in migrations.sha256: {digest}  {path.name}")
    elif kept[path.name] != digest:
        fault(path, f"was edited after it was shipped (now {digest})")
for name in kept.keys() - {p.name for p in found}:
    fault("tests/arch/migrations.sha256", f"{name} is gone")
finish()
