"""SQL lives in .sql files: no statement is written, or put together, in C. What steers a connection
(PRAGMA, BEGIN, SAVEPOINT and their ends) may be said in store/, as whole literals."""
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from arch import SOURCE, code, fault, files, finish, line_of  # noqa: E402

STATEMENT = re.compile(
    r'"\s*(SELECT\s|INSERT\s+(INTO|OR)|UPDATE\s+\w+\s+SET|DELETE\s+FROM|REPLACE\s+INTO'
    r"|CREATE\s+(TABLE|INDEX|TRIGGER|VIEW)|ALTER\s+TABLE|DROP\s+\w+|WITH\s+\w+\s+AS)", re.I)
FORMATTED = re.compile(r"\bsqlite3_v?m?s?n?printf\b|\bsqlite3_str_")

for path in files("src/**/*.[ch]"):
    text = code(path)
    for m in STATEMENT.finditer(text):
        fault(f"{path.relative_to(SOURCE)}:{line_of(text, m.start())}", f"SQL in C: {m.group(0)}…")
    for m in FORMATTED.finditer(text):
        fault(f"{path.relative_to(SOURCE)}:{line_of(text, m.start())}", "formatted SQL")
finish()
