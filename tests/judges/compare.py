"""Compares both sides of a finished migration, sharing no code with rehome.

    compare.py --state AFTER.json --counters COUNTERS.json
               [--before BEFORE.json] [--external-id POLICY] [--left-out ATTRIBUTE]…
               [--source-database FILE --target-database FILE [--target-database-before FILE]
                --id "TABLE.COLUMN" --id "TABLE.COLUMN:$.PATH" …]
               [--unmoved IDS.json] [--uncounted] [--elsewhere TABLE]…

AFTER and BEFORE are the emulator's `GET /__emulator/state`, COUNTERS its `GET /__emulator/counters`;
the instances are labelled `source` and `target`. The databases are SQLite files.

What must hold:

- Every source user has exactly one account, found by its identifiers and never by a Clerk id; no two
  share one; no account is there that was not there BEFORE and belongs to nobody.
- An account that was there BEFORE is as it was. Every other carries each field that the API can
  carry, and was created exactly once.
- Every row is there under the new ids, each value with its storage class and bytes; rows that were in
  the target before stand as they were; nothing else is there.
- No id of a source user is left in any value of the target; foreign keys hold.

UNMOVED (a JSON list of source ids) are users who could not be moved: they must have no account of
ours, and no row may be there that names them or hangs on one that does.

With --uncounted it does not matter how often an account was created: after a way back and forth
again, some were created twice.

Rows of a table that is named ELSEWHERE are judged by somebody else.

Prints counts and differences; exits 1 on any difference, 2 on wrong usage.
"""

import argparse
import collections
import json
import re
import sqlite3
import sys

SHOWN = 25
CLERK_ID = re.compile(rb"user_[0-9A-Za-z]{27}")
PLAIN = ("first_name", "last_name", "locale")
FLAGS = ("banned", "delete_self_enabled", "create_organization_enabled", "bypass_client_trust")
IDENTIFIERS = (
    # The API's list, the value in it, the id of the primary one.
    ("email_addresses", "email_address", "primary_email_address_id"),
    ("phone_numbers", "phone_number", "primary_phone_number_id"),
    ("web3_wallets", "web3_wallet", "primary_web3_wallet_id"),
)


class Findings:
    """Differences, and what was compared to find them."""

    def __init__(self):
        self.differences = []
        self.counts = collections.Counter()

    def differ(self, what):
        self.differences.append(what)

    def same(self, what, expected, found):
        self.counts["values compared"] += 1
        if expected != found:
            self.differ(f"{what}: expected {shorten(expected)}, found {shorten(found)}")


def shorten(value):
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text)} characters)"


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


# Users.


def is_verified(identifier):
    return (identifier.get("verification") or {}).get("status") == "verified"


def identifiers(user):
    """Every identifier of a user as (kind, folded value, whether it is exclusively theirs)."""
    for name, field, _ in IDENTIFIERS:
        for one in user[name]:
            yield name, one[field].lower(), is_verified(one) or bool(one.get("reserved"))
    if user["username"]:
        yield "username", user["username"].lower(), True


def holders(users):
    """Who has an identifier: (kind, value) to the ids of those to whom it is bound."""
    index = collections.defaultdict(set)
    for user in users:
        for kind, value, _ in identifiers(user):
            index[kind, value].add(user["id"])
    return index


def account_of(user, index):
    """The ids of all accounts that could be this user's: by what is exclusively theirs, or else by
    anything that they have; in the order address, number, wallet, name."""
    for proven in (True, False):
        for kind in [name for name, _, _ in IDENTIFIERS] + ["username"]:
            found = set()
            for its_kind, value, exclusive in identifiers(user):
                if its_kind == kind and exclusive == proven:
                    found |= index.get((kind, value), set())
            if found:
                return found
    return set()


def map_users(source, target, unmoved, before, findings):
    """Old id to new id, found by identifiers alone."""
    index = holders(target)
    mapping, taken = {}, {}
    for user in source:
        accounts = account_of(user, index)
        findings.counts["source users"] += 1
        if user["id"] in unmoved:
            ours = accounts - before.keys()
            if ours:
                findings.differ(f"user {user['id']} was not to be moved, but there is {sorted(ours)}")
            continue
        if len(accounts) != 1:
            findings.differ(f"user {user['id']} has {len(accounts)} accounts: {sorted(accounts)}")
            continue
        (account,) = accounts
        if account in taken:
            findings.differ(f"account {account} belongs to {taken[account]} and to {user['id']}")
        taken[account] = user["id"]
        mapping[user["id"]] = account
    for user in target:
        if user["id"] not in taken and user["id"] not in before:
            findings.differ(f"account {user['id']} is nobody's")
    return mapping


def expected_external_id(user, policy):
    own = user["external_id"] or None
    return {
        "keep-or-source-id": own or user["id"],
        "source-id": user["id"],
        "keep": own,
        "none": None,
    }[policy]


def exact(value):
    """JSON as text in which 1, 1.0 and true are three things and the order of keys is none."""
    return json.dumps(value, sort_keys=True, ensure_ascii=True)


def carried_identifiers(user, name, field):
    """What the target has to have. The API makes an identifier verified or reserved: what is not
    verified must not become so. Of wallets it knows only verified ones."""
    carried = {}
    for one in user[name]:
        if is_verified(one):
            carried[one[field].lower()] = "verified"
        elif name != "web3_wallets":
            carried[one[field].lower()] = "reserved"
    return carried


def found_identifiers(user, name, field):
    def status(one):
        if is_verified(one):
            return "verified"
        return "reserved" if one.get("reserved") else "open to anyone"

    return {one[field].lower(): status(one) for one in user[name]}


def primary(user, name, field, key):
    """The primary identifier; the first one when the API names none."""
    own = [one for one in user[name] if one["id"] == user[key]] or user[name][:1]
    return own[0][field].lower() if own else None


def compare_user(user, account, policy, left_out, findings):
    def same(field, expected, found):
        if field not in left_out:
            findings.same(f"user {user['id']} -> {account['id']}, {field}", expected, found)

    for name, field, key in IDENTIFIERS:
        if field in left_out:
            continue
        carried = carried_identifiers(user, name, field)
        same(name, carried, found_identifiers(account, name, field))
        first = primary(user, name, field, key)
        if first in carried:
            same(key, first, primary(account, name, field, key))
    same("username", (user["username"] or "").lower(), (account["username"] or "").lower())
    for field in PLAIN:
        same(field, user[field] or None, account[field] or None)
    for field in ("public_metadata", "private_metadata", "unsafe_metadata"):
        same(field, exact(user[field]), exact(account[field]))
    for field in ("created_at", "legal_accepted_at"):
        same(field, user[field], account[field])
    for field in FLAGS:
        same(field, user[field], account[field])
    # A lock with an end cannot be carried; one without can.
    same("locked", user["locked"] and user["lockout_expires_in_seconds"] is None, account["locked"])
    limit = user["create_organizations_limit"]
    same("create_organizations_limit", limit or None, account["create_organizations_limit"] or None)
    same("external_id", expected_external_id(user, policy), account["external_id"])


def compare_users(arguments, unmoved, findings):
    """Compares the instances and gives the mapping."""
    state = read_json(arguments.state)["instances"]
    source, target = state["source"]["users"], state["target"]["users"]
    before = {}
    if arguments.before:
        before = {user["id"]: user for user in read_json(arguments.before)["instances"]["target"]["users"]}
    mapping = map_users(source, target, unmoved, before, findings)
    accounts = {user["id"]: user for user in target}
    keys = collections.Counter(user["external_id"] for user in target if user["external_id"])
    for key, count in keys.items():
        if count > 1:
            findings.differ(f"external_id {key!r} is on {count} accounts")
    for user in source:
        account = accounts.get(mapping.get(user["id"]))
        if account is None:
            continue
        if account["id"] in before:
            findings.counts["adopted accounts"] += 1
            findings.same(f"adopted account {account['id']}", exact(before[account["id"]]), exact(account))
        else:
            findings.counts["created accounts"] += 1
            compare_user(user, account, arguments.external_id, arguments.left_out, findings)
    for gone in before.keys() - accounts.keys():
        findings.differ(f"account {gone} was there before and is gone")
    if not arguments.uncounted:
        compare_creates(arguments, before, accounts, findings)
    return {user["id"] for user in source}, mapping


def compare_creates(arguments, before, accounts, findings):
    counters = read_json(arguments.counters)["instances"]["target"]
    for key, count in counters["creates_by_external_id"].items():
        if count != 1:
            findings.differ(f"the account under external_id {key!r} was created {count} times")
    new = [account for name, account in accounts.items() if name not in before]
    findings.same("creates in the target", len(new), counters["creates"])
    for account in new:
        key = account["external_id"]
        if key is not None and key not in counters["creates_by_external_id"]:
            findings.differ(f"account {account['id']} has external_id {key!r} from elsewhere")
    findings.same("deletes in the target", 0, counters["deletes"])


# Rows.


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


class Database:
    """A SQLite file, read value by value with storage class and bytes."""

    def __init__(self, path):
        self.connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        self.connection.text_factory = bytes

    def ask(self, sql, *parameters):
        return self.connection.execute(sql, parameters).fetchall()

    def tables(self):
        names = self.ask("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        names = [name.decode() for (name,) in names]
        own = lambda name: not name.startswith(("sqlite_", "_cf_")) and name != "d1_migrations"
        return [name for name in names if own(name)]

    def columns(self, table):
        """Names of the stored columns, and those of the primary key in its order."""
        info = self.ask("SELECT name, pk, hidden FROM pragma_table_xinfo(?)", table)
        names = [name.decode() for name, _, hidden in info if hidden == 0]
        key = sorted((pk, name.decode()) for name, pk, _ in info if pk > 0)
        return names, [name for _, name in key]

    def references(self, table):
        """Foreign keys: (own columns, table, its columns)."""
        keys = collections.defaultdict(list)
        rows = self.ask('SELECT id, seq, "table", "from", "to" FROM pragma_foreign_key_list(?)', table)
        for number, seq, parent, own, other in sorted(rows, key=lambda row: row[:2]):
            keys[number].append((parent.decode(), own.decode(), other.decode() if other else None))
        for parts in keys.values():
            parent = parts[0][0]
            others = [other for _, _, other in parts]
            if None in others:
                others = self.columns(parent)[1]
            yield [own for _, own, _ in parts], parent, others

    def rows(self, table):
        """Every row as {column: (storage class, exact value)}, the rowid as `rowid` without a key."""
        names, key = self.columns(table)
        wanted = names if key else ["rowid", *names]
        parts = []
        for name in wanted:
            column = "rowid" if name == "rowid" and not key else quoted(name)
            parts.append(f"typeof({column})")
            parts.append(
                f"CASE WHEN typeof({column}) IN ('text', 'blob') THEN CAST({column} AS BLOB) ELSE {column} END"
            )
        for row in self.connection.execute(f"SELECT {', '.join(parts)} FROM {quoted(table)}"):
            values = zip(row[::2], row[1::2])
            yield dict(zip(wanted, [(kind.decode(), precise(value)) for kind, value in values]))


def precise(value):
    return value.hex() if isinstance(value, float) else value


def id_columns(database, declared):
    """{(table, column): [path or None]}: what was declared, and the foreign keys that lead there."""
    found = collections.defaultdict(list)
    for declaration in declared:
        place, _, path = declaration.partition(":")
        table, _, column = place.partition(".")
        found[table, column].append(path or None)
    grown = True
    while grown:
        grown = False
        for table in database.tables():
            for own, parent, others in database.references(table):
                for column, other in zip(own, others):
                    if None in found.get((parent, other), []) and None not in found.get((table, column), []):
                        found[table, column].append(None)
                        grown = True
    return found


def steps(path):
    """`$.a.b[0][*]` as a list of names, numbers and None for every element."""
    if not path.startswith("$"):
        raise SystemExit(f"compare.py: {path!r} is no path")
    parts = re.findall(r"\.([^.\[\]]+)|\[(\d+|\*)\]", path[1:])
    return [name if name else (None if number == "*" else int(number)) for name, number in parts]


def ids_at(value, path):
    """The strings at a path."""
    if not path:
        return [value] if isinstance(value, str) else []
    head, rest = path[0], path[1:]
    if head is None:
        return [found for item in value for found in ids_at(item, rest)] if isinstance(value, list) else []
    if isinstance(head, str) and isinstance(value, dict) and head in value:
        return ids_at(value[head], rest)
    if isinstance(head, int) and isinstance(value, list) and head < len(value):
        return ids_at(value[head], rest)
    return []


class Unmapped(Exception):
    """A row that names somebody without an account."""


def renamed(old, mapping):
    if old not in mapping:
        if mapping.stay:
            return old
        raise Unmapped(old)
    return mapping[old]


class Mapping(dict):
    """Old id to new id. `stay`: an id without a counterpart stays as it is."""

    stay = False


def rewritten(value, paths, mapping):
    """A stored value as the target has to hold it. Inside JSON nothing but the id may change: not a
    space, not a digit."""
    kind, content = value
    if kind != "text":
        return value
    for path in paths:
        if path is None:
            content = renamed(content.decode(), mapping).encode()
            continue
        try:
            document = json.loads(content)
        except ValueError:
            continue
        for old in ids_at(document, steps(path)):
            if content.count(json.dumps(old).encode()) != 1:
                raise SystemExit(f"compare.py: {old!r} stands several times in one value; cannot judge that")
            content = content.replace(json.dumps(old).encode(), json.dumps(renamed(old, mapping)).encode())
    return kind, content


def ordered(database):
    """Tables with parents before children; those in a cycle as they come."""
    left, done = database.tables(), []
    while left:
        free = [
            table
            for table in left
            if all(parent in done or parent == table for _, parent, _ in database.references(table))
        ]
        done += free or left[:1]
        left = [table for table in left if table not in done]
    return done


def compare_rows(arguments, source_ids, mapping, findings):
    mapping = Mapping(mapping)
    mapping.stay = arguments.in_place
    if arguments.in_place:
        source_ids = {old for old in source_ids if old in mapping}
    source, target = Database(arguments.source_database), Database(arguments.target_database)
    before = Database(arguments.target_database_before) if arguments.target_database_before else None
    places = id_columns(source, arguments.id)
    for table, column in places:
        if table not in source.tables() or column not in source.columns(table)[0]:
            raise SystemExit(f"compare.py: there is no column {table}.{column}")
    absent = collections.defaultdict(set)  # Values by (table, columns) of rows that must not be there.
    for table in ordered(source):
        if table in arguments.elsewhere:
            continue
        compare_table(table, source, target, before, places, mapping, absent, findings)
    for table in target.tables():
        scan(table, target, source_ids, findings)
    for row in target.ask("PRAGMA foreign_key_check"):
        findings.differ(f"a foreign key does not hold: {row}")


def compare_table(table, source, target, before, places, mapping, absent, findings):
    key = source.columns(table)[1] or ["rowid"]
    references = list(source.references(table))
    expected = {}
    for row in source.rows(table):
        findings.counts["source rows"] += 1
        orphan = any(
            tuple(row[column] for column in own) in absent[parent, tuple(others)]
            for own, parent, others in references
        )
        try:
            if orphan:
                raise Unmapped(table)
            new = {
                column: rewritten(value, places.get((table, column), []), mapping)
                for column, value in row.items()
            }
        except Unmapped:
            findings.counts["rows that wait"] += 1
            for other in source.tables():
                for _, parent, others in source.references(other):
                    if parent == table:
                        absent[table, tuple(others)].add(tuple(row[column] for column in others))
            continue
        expected[tuple(new[column] for column in key)] = new
    earlier = {}
    if before is not None:
        earlier = {tuple(row[column] for column in key): row for row in before.rows(table)}
    if source.columns(table) != target.columns(table):
        findings.differ(f"table {table} has other columns in the target")
        return
    found = {tuple(row[column] for column in key): row for row in target.rows(table)}
    findings.counts["target rows"] += len(found)
    for name, row in found.items():
        want = expected.get(name) or earlier.get(name)
        if want is None:
            findings.differ(f"{table} {shorten(name)} is in the target only")
            continue
        for column, value in row.items():
            findings.same(f"{table} {shorten(name)}, {column}", want[column], value)
    for name in (expected.keys() | earlier.keys()) - found.keys():
        findings.differ(f"{table} {shorten(name)} is missing")


def scan(table, target, source_ids, findings):
    for row in target.rows(table):
        for column, (_, value) in row.items():
            if not isinstance(value, bytes):
                continue
            for match in CLERK_ID.findall(value):
                if match.decode() in source_ids:
                    findings.differ(f"{table}.{column} still names {match.decode()}")


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--state", required=True)
    parser.add_argument("--counters", required=True)
    parser.add_argument("--before")
    parser.add_argument("--unmoved")
    parser.add_argument("--external-id", default="keep-or-source-id",
                        choices=["keep-or-source-id", "source-id", "keep", "none"])
    parser.add_argument("--left-out", action="append", default=[], metavar="ATTRIBUTE")
    parser.add_argument("--source-database")
    parser.add_argument("--target-database")
    parser.add_argument("--target-database-before")
    parser.add_argument("--uncounted", action="store_true")
    parser.add_argument("--in-place", action="store_true")
    parser.add_argument("--elsewhere", action="append", default=[], metavar="TABLE")
    parser.add_argument("--id", action="append", default=[], metavar="TABLE.COLUMN[:PATH]")
    arguments = parser.parse_args()
    if bool(arguments.source_database) != bool(arguments.target_database):
        parser.error("give both databases or none")
    return arguments


def main():
    arguments = parsed()
    findings = Findings()
    unmoved = set(read_json(arguments.unmoved)) if arguments.unmoved else set()
    source_ids, mapping = compare_users(arguments, unmoved, findings)
    if arguments.source_database:
        compare_rows(arguments, source_ids, mapping, findings)
    for what, count in findings.counts.items():
        print(f"{count:9}  {what}")
    for difference in findings.differences[:SHOWN]:
        print(f"*  {difference}")
    if len(findings.differences) > SHOWN:
        print(f"*  … and {len(findings.differences) - SHOWN} more")
    print(f"{len(findings.differences)} differences")
    return 1 if findings.differences else 0


if __name__ == "__main__":
    sys.exit(main())
