"""Says whether a target is again what it was, sharing no code with rehome.

    restored.py --before BEFORE.json --after AFTER.json
                [--database-before FILE --database-after FILE]
                [--except IDS.json]

BEFORE and AFTER are the emulator's `GET /__emulator/state`; the instance is labelled `target`. The
databases are SQLite files. Every account must be there with every field as it was, and no other;
every table, index and trigger with its text; every row under its rowid with the type and the
literal of each value. The counters of AUTOINCREMENT are not compared.

EXCEPT (a JSON list of ids of the target) are accounts that stay on purpose; what names them is left
out of the comparison.

Prints counts and differences; exits 1 on any difference, 2 on wrong usage.
"""

import argparse
import collections
import json
import sqlite3
import sys

SHOWN = 25


def accounts(path):
    with open(path, encoding="utf-8") as file:
        state = json.load(file)
    users = state["instances"]["target"]["users"] if "instances" in state else state["target"]["users"]
    if isinstance(users, dict):
        users = list(users.values())
    return {f"account {user['id']}": json.dumps(user, sort_keys=True) for user in users}


def rows(path):
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    connection.text_factory = bytes
    found = {}
    schema = connection.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        " AND name NOT LIKE '\\_%' ESCAPE '\\'"
    ).fetchall()
    for kind, name, sql in schema:
        found[f"{kind.decode()} {name.decode()}"] = sql
        if kind != b"table":
            continue
        quoted = '"' + name.decode().replace('"', '""') + '"'
        columns = [row[1].decode() for row in connection.execute(f"PRAGMA table_info({quoted})")]
        values = ", ".join(
            f"typeof({column}), quote({column})"
            for column in ('"' + column.replace('"', '""') + '"' for column in columns)
        )
        for row in connection.execute(f"SELECT rowid, {values} FROM {quoted}"):
            found[f"row {name.decode()} {row[0]}"] = row[1:]
    return found


def main():
    parser = argparse.ArgumentParser(add_help=True)
    parser.add_argument("--before", required=True)
    parser.add_argument("--after", required=True)
    parser.add_argument("--database-before")
    parser.add_argument("--database-after")
    parser.add_argument("--except", dest="kept")
    arguments = parser.parse_args()
    kept = []
    if arguments.kept:
        with open(arguments.kept, encoding="utf-8") as file:
            kept = json.load(file)
    before, after = accounts(arguments.before), accounts(arguments.after)
    if arguments.database_before:
        before |= rows(arguments.database_before)
        after |= rows(arguments.database_after)
    counts = collections.Counter(name.split(" ")[0] for name in before)
    differences = []
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) == after.get(name):
            continue
        if any(one in name or one in str(after.get(name)) for one in kept):
            continue
        differences.append(f"{name}: was {str(before.get(name))[:200]}, is {str(after.get(name))[:200]}")
    print(", ".join(f"{number} {kind}s" for kind, number in sorted(counts.items())) + " compared")
    for difference in differences[:SHOWN]:
        print(difference)
    print(f"{len(differences)} differences")
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
