"""Says whether a database was rewritten in place exactly, sharing no code with rehome.

    in_place.py --before FILE --after FILE [--pairs PAIRS.json --id TABLE.COLUMN[:PATH] ...]

BEFORE is the SQLite file as it was, AFTER as it is. Without PAIRS (a JSON object, old id to new id)
both must be the same: every table, index and trigger with its text, every row under its rowid with
the type and the bytes of each value. With PAIRS every value in the named columns must have become its
partner, a string at a PATH (`$.a.b`) inside JSON too with every other byte of the text as it was; and
everything else must be the same, and no old id may stand anywhere in AFTER.

Both files are read side by side, row by row, so memory does not grow. The foreign keys of AFTER are
checked. Prints counts; exits 1 on any difference, 2 on wrong usage.
"""

import argparse
import itertools
import json
import re
import sqlite3
import sys

SHOWN = 25
ID = re.compile(rb"user_[0-9A-Za-z]{27}")


def opened(path):
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    connection.text_factory = bytes
    return connection


def schema(connection):
    wanted = "name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_cf%' ESCAPE '\\'"
    rows = connection.execute(f"SELECT type, name, sql FROM sqlite_schema WHERE {wanted}")
    return {(kind.decode(), name.decode()): sql for kind, name, sql in rows}


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def rows(connection, table, columns):
    """Each row as its rowid and, for each column, its type and its value as bytes or number."""
    parts = ", ".join(f"typeof({quoted(c)}), {quoted(c)}" for c in columns)
    for row in connection.execute(f"SELECT rowid, {parts} FROM {quoted(table)} ORDER BY rowid"):
        yield row[0], list(zip(row[1::2], row[2::2]))


def at(document, steps):
    for step in steps:
        if not isinstance(document, dict) or step not in document:
            return None
        document = document[step]
    return document if isinstance(document, str) else None


def expected(cell, places, pairs):
    kind, value = cell
    if kind != b"text":
        return cell
    for path in places:
        if path is None:
            new = pairs.get(value.decode("utf-8", "surrogateescape"))
            value = new.encode() if new is not None else value
            continue
        try:
            old = at(json.loads(value), path)
        except ValueError:
            continue
        if old in pairs:
            word = json.dumps(old).encode()
            if value.count(word) != 1:
                sys.exit(f"in_place.py: {old!r} stands several times in one value; cannot judge that")
            value = value.replace(word, json.dumps(pairs[old]).encode())
    return kind, value


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--before", required=True)
    parser.add_argument("--after", required=True)
    parser.add_argument("--pairs")
    parser.add_argument("--id", action="append", default=[])
    arguments = parser.parse_args()
    pairs = {}
    if arguments.pairs:
        with open(arguments.pairs, encoding="utf-8") as file:
            pairs = json.load(file)
    places = {}
    for declared in arguments.id:
        place, _, path = declared.partition(":")
        steps = path.removeprefix("$.").split(".") if path else None
        places.setdefault(place, []).append(steps)
    before, after = opened(arguments.before), opened(arguments.after)
    differences, count, changed = [], 0, 0
    shapes = schema(before), schema(after)
    if shapes[0] != shapes[1]:
        differences.append(f"the schema: {set(shapes[0].items()) ^ set(shapes[1].items())}")
    olds = {old.encode() for old in pairs}
    for kind, table in sorted(shapes[0]):
        if kind != "table":
            continue
        columns = [row[1].decode() for row in before.execute(f"PRAGMA table_info({quoted(table)})")]
        both = itertools.zip_longest(rows(before, table, columns), rows(after, table, columns))
        for was, now in both:
            count += 1
            if was is None or now is None or was[0] != now[0]:
                differences.append(f"{table}: row {(was or now)[0]} stands on one side only")
                break
            for column, old, new in zip(columns, was[1], now[1]):
                want = expected(old, places.get(f"{table}.{column}", []), pairs)
                changed += want != old
                # Reals are told apart by their digits, zeros by their sign.
                if want != new or repr(want) != repr(new):
                    differences.append(f"{table} {was[0]}, {column}: expected {want}, found {new}")
                if isinstance(new[1], bytes) and any(one in olds for one in ID.findall(new[1])):
                    differences.append(f"{table} {was[0]}, {column}: an old id in {new}")
    broken = after.execute("PRAGMA foreign_key_check").fetchall()
    differences += [f"a foreign key points nowhere: {one}" for one in broken[:SHOWN]]
    print(f"{count} rows compared, {changed} values exchanged, {len(pairs)} pairs")
    for difference in differences[:SHOWN]:
        print(difference)
    print(f"{len(differences)} differences")
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
