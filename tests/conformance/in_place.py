"""A database of the real engine whose ids are rewritten where they stand, and given back.

The ids are a primary key that other rows refer to, part of a composite key that is referred to as
well (in a table without rowids), a plain column, and a member of a JSON text, beside values that
are hard to carry. rehome reaches the engine over HTTP; wrangler reads it, when rehome has gone.
Every cell is compared by typeof and by quote or hex, rowids included: after the run it has to be
what it was but for the ids, after the rollback exactly what it was.
"""

ROWS = 6_000

SCHEMA = """
CREATE TABLE people (clerk_id TEXT PRIMARY KEY, email TEXT);
CREATE TABLE traps (
  id INTEGER PRIMARY KEY, owner TEXT NOT NULL REFERENCES people(clerk_id),
  big INTEGER, anything, words TEXT, number REAL, bytes BLOB
);
CREATE INDEX traps_by_owner ON traps(owner);
CREATE TABLE members (
  team TEXT, person TEXT REFERENCES people(clerk_id), since, PRIMARY KEY (team, person)
) WITHOUT ROWID;
CREATE TABLE seats (
  seat INTEGER PRIMARY KEY, team TEXT, person TEXT,
  FOREIGN KEY (team, person) REFERENCES members(team, person)
);
CREATE TABLE notes (id INTEGER PRIMARY KEY, payload TEXT);
CREATE TABLE rung (word TEXT);
CREATE TRIGGER bell AFTER UPDATE ON people BEGIN INSERT INTO rung VALUES ('changed'); END;
"""

# The JSON has spaces, numbers that a careless hand would change, and a second id that nobody named.
REST = """
INSERT INTO members SELECT 'team ' || (rowid % 7), clerk_id, rowid * 1.0 FROM people;
INSERT INTO seats SELECT rowid, 'team ' || (rowid % 7), clerk_id FROM people;
INSERT INTO notes SELECT rowid, '{{ "n" : 1.50, "big":9007199254740993, "actor": {{"id" :"' || clerk_id
  || '"}},  "said":"of {anybody}" }}' FROM people;
"""

TABLES = {
    "people": ["rowid", "clerk_id", "email"],
    "traps": ["rowid", "owner", "big", "anything", "words", "number", "bytes"],
    "members": ["team", "person", "since"],
    "seats": ["rowid", "team", "person"],
    "notes": ["rowid", "payload"],
    "rung": ["rowid", "word"],
}

IDS = """[records]
mode = "in-place"
lot_users = 20
leave_ids = ["notes.payload"]
[records.ids]
"people.clerk_id" = "user"
"notes.payload:$.actor.id" = "user"
"""


def shown(column):
    """A cell as the engine has it: its storage class, and its bytes or its exact number."""
    bytes_of = f"CAST({column} AS BLOB)"
    ends = f"length({bytes_of}) || hex(substr({bytes_of}, 1, 500)) || hex(substr({bytes_of}, -500))"
    exact = f"CASE WHEN length({bytes_of}) > 100000 THEN {ends} ELSE hex({column}) END"
    return f"typeof({column}) || ' ' || CASE WHEN typeof({column}) IN ('text', 'blob') THEN {exact} ELSE quote({column}) END"


def cells(local, database):
    """Every cell of every table, a list of rows for each."""
    found = {}
    for table, columns in TABLES.items():
        rows = found[table] = []
        asked = ", ".join(f"{shown(column)} AS c{place}" for place, column in enumerate(columns))
        order = ", ".join(columns if table == "members" else columns[:1])
        while True:
            question = f"SELECT {asked} FROM {table} ORDER BY {order} LIMIT 3000 OFFSET {len(rows)}"
            page = local(database, "--json", "--command", question)[0]["results"]
            rows += [list(row.values()) for row in page]
            if len(page) < 3000:
                break
    return found


def expected(before, pairs, anybody):
    """What the cells have to be with the new ids: nothing else may differ."""
    spelled = lambda text: text.encode().hex().upper()
    exchanged = {"text " + spelled(old): "text " + spelled(new) for old, new in pairs.items()}
    rows = {table: [[exchanged.get(cell, cell) for cell in row] for row in rows] for table, rows in before.items()}
    kept = spelled(f"of {anybody}")
    for row in rows["notes"]:
        head, tail = row[1].split(kept)
        for old, new in pairs.items():
            head = head.replace(spelled(old), spelled(new))
        row[1] = head + kept + tail
    # Its key is text, and stands in another place under another id.
    rows["members"].sort()
    return rows


def differs(what, wanted, found, check):
    for table, rows in wanted.items():
        check(f"rows of {table}, {what}", len(rows), len(found[table]))
        for old, new in zip(rows, found[table]):
            check(f"{table}, {what}", old, new)


def judge(hello, source, target_users, tools):
    """Runs it, judges it, takes it back and judges that. `target_users` reads the accounts."""
    # Who has no address cannot be told by an independent look at both sides.
    source = {key: address for key, address in source.items() if address}
    literal = lambda text: "NULL" if text is None else "'" + text.replace("'", "''") + "'"
    people = ",\n".join(f"({literal(key)}, {literal(address)})" for key, address in source.items())
    anybody = min(source)
    fill = SCHEMA + f"INSERT INTO people VALUES {people};\n" + tools.traps(ROWS, len(source)) + REST.format(anybody=anybody)
    (tools.work / "place.sql").write_text(fill)
    tools.local("place", "--file", "place.sql")
    before, accounts = cells(tools.local, "place"), target_users()
    tools.check("traps to be rewritten", ROWS, len(before["traps"]))

    def obey(*commands):
        with tools.developing() as address:
            database = f'[target.database]\nkind = "d1"\napi = "local-explorer"\napi_url = "{address}"\ndatabase = "PLACE"\n'
            tools.configure("place", hello, database + IDS)
            return [tools.obey("place", hello, *command) for command in commands]

    obey(["check"], ["plan"], ["run", "--yes"], ["verify"])
    created = {address: key for key, address in target_users().items()}
    pairs = {key: created[address] for key, address in source.items()}
    after = cells(tools.local, "place")
    after["members"].sort()
    differs("after the run", expected(before, pairs, anybody), after, tools.check)
    orphans = "SELECT count(*) AS n FROM pragma_foreign_key_check"
    tools.check("orphans in place", 0, tools.local("place", "--json", "--command", orphans)[0]["results"][0]["n"])
    changed = sum(old != new for table in before for old, new in zip(before[table], expected(before, pairs, anybody)[table]))

    obey(["rollback", "--yes"])
    differs("after the rollback", before, cells(tools.local, "place"), tools.check)
    tools.check("accounts after the rollback", accounts, target_users())
    total = sum(len(rows) for rows in before.values())
    print(f"in place: {changed} of {total} rows rewritten and given back, no other cell differs")

    # A judge that cannot see a difference has shown nothing.
    spoil = "UPDATE notes SET payload = replace(payload, '1.50', '1.5') WHERE id = 3"
    tools.local("place", "--json", "--command", spoil)
    spoilt = cells(tools.local, "place")
    tools.check("what the judge sees in place", [3], [n + 1 for n, row in enumerate(before["notes"]) if row != spoilt["notes"][n]])
