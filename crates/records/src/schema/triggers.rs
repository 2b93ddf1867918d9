//! Triggers, as far as it matters which of them may fire.
//!
//! A trigger is part of the application: it counts, logs, sends, refuses. Rows that are carried
//! have gone through all of that once, so no trigger fires for them. One sort is different: those
//! that keep a full-text index in step with its table. They are how the content of the index
//! follows, forth and back, so they go on firing.

use serde::{Deserialize, Serialize};

use super::sql::{Token, tokens};

/// A trigger on a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// The statement that creates it, as SQLite keeps it.
    pub sql: String,
    /// Whether all that it does is to keep a full-text index in step with the table.
    pub keeps_index: bool,
}

/// What makes a trigger fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    Insert,
    Update,
    Delete,
}

/// What a trigger does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deed {
    pub(super) occasion: Occasion,
    /// The tables that its statements write to, in their order.
    pub(super) writes: Vec<String>,
    /// Whether it does nothing but write values of the row at hand: it asks no table and
    /// raises nothing.
    pub(super) plain: bool,
}

/// What the trigger created by `sql` does; `None` when that cannot be told.
pub(super) fn deed(sql: &str) -> Option<Deed> {
    let tokens = tokens(sql);
    let begin = tokens.iter().position(|token| token.is("BEGIN"))?;
    let (head, body) = tokens.split_at(begin);
    // The occasion stands before ON; a name may look like one, so it is sought from there on back.
    let on = head.iter().position(|token| token.is("ON"))?;
    let occasion = head.get(2..on)?.iter().rev().find_map(|token| {
        [("INSERT", Occasion::Insert), ("DELETE", Occasion::Delete), ("UPDATE", Occasion::Update)]
            .into_iter()
            .find_map(|(word, occasion)| token.is(word).then_some(occasion))
    })?;
    let body = body.get(1..body.len().checked_sub(1)?)?;
    let mut writes = Vec::new();
    let mut plain = true;
    for statement in body.split(|token| *token == Token::Sign(';')) {
        if statement.is_empty() {
            continue;
        }
        match written(statement) {
            Some(table) => writes.push(table.to_owned()),
            None => plain = false,
        }
        plain &= !statement
            .iter()
            .any(|token| ["SELECT", "WITH", "RAISE"].iter().any(|word| token.is(word)));
    }
    Some(Deed { occasion, writes, plain })
}

/// The table that a statement writes to.
fn written(statement: &[Token]) -> Option<&str> {
    let (first, rest) = statement.split_first()?;
    let place = if first.is("UPDATE") {
        if rest.first()?.is("OR") { 2 } else { 0 }
    } else if first.is("INSERT") || first.is("REPLACE") || first.is("DELETE") {
        rest.iter().position(|token| token.is("INTO") || token.is("FROM"))? + 1
    } else {
        return None;
    };
    rest.get(place)?.name()
}

impl Trigger {
    /// Whether the statement stays whole on its way into a D1 database. Cloudflare's server cuts
    /// the text of a request at each `;` and knows the body of a trigger by `BEGIN`, `CASE` and
    /// `END` in capitals between white space, with lines that end in LF alone
    /// (cloudflare/workers-sdk issues 14991 and 15178). Where the text leaves a doubt, the answer
    /// is no.
    pub fn stays_whole(&self) -> bool {
        let sql = &self.sql;
        if sql.contains(['\r', '[']) || sql.contains("--") || sql.contains("/*") {
            return false;
        }
        let all = ["BEGIN", "CASE", "END"];
        let of = |word: &str| tokens(sql).iter().filter(|token| token.is(word)).count();
        let wanted: Vec<usize> = all.iter().map(|word| of(word)).collect();
        // The server knows no words but those; they must be as many as there are, and none may
        // hide in a name or a text.
        let seen: Vec<usize> = all
            .iter()
            .map(|word| {
                sql.split([' ', '\t', '\n'])
                    .filter(|part| {
                        part == word || (*word == "END" && part.strip_suffix(';') == Some("END"))
                    })
                    .count()
            })
            .collect();
        wanted == seen && sql.ends_with("END")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_trigger_writes_is_read_from_its_body() {
        let of = |sql: &str| deed(sql).unwrap();
        let keeper =
            of("CREATE TRIGGER \"on update\" AFTER UPDATE OF a, b ON docs WHEN new.a > 1 \
                         BEGIN INSERT INTO docs_fts(docs_fts, rowid, a) VALUES('delete', old.id, \
                         old.a); insert or replace into \"docs_fts\" VALUES (1); end");
        assert_eq!(keeper.occasion, Occasion::Update);
        assert_eq!(keeper.writes, ["docs_fts", "docs_fts"]);
        assert!(keeper.plain);
        let asking = of("CREATE TRIGGER t DELETE ON a BEGIN UPDATE OR IGNORE [b] SET n = \
                         (SELECT count(*) FROM a); DELETE FROM c; END");
        assert_eq!((asking.occasion, asking.plain), (Occasion::Delete, false));
        assert_eq!(asking.writes, ["b", "c"]);
        let raising = of("CREATE TRIGGER t INSERT ON a BEGIN SELECT RAISE(ABORT, 'no'); END");
        assert!(!raising.plain && raising.writes.is_empty());
        for odd in ["", "BEGIN", "CREATE TRIGGER", "CREATE TRIGGER t ON a BEGIN END", "BEGIN ON"] {
            assert_eq!(deed(odd), None, "{odd}");
        }
    }

    #[test]
    fn only_the_canonical_spelling_stays_whole() {
        let whole = |sql: &str| {
            let (name, keeps_index) = ("t".to_owned(), false);
            Trigger { name, sql: sql.to_owned(), keeps_index }.stays_whole()
        };
        assert!(whole(
            "CREATE TRIGGER t AFTER INSERT ON a BEGIN\n UPDATE a SET b = CASE WHEN c THEN ';' ELSE \
             2 END ; DELETE FROM d; END"
        ));
        for cut in [
            "CREATE TRIGGER t AFTER INSERT ON a begin DELETE FROM d; end",
            "CREATE TRIGGER t AFTER INSERT ON a BEGIN\r\nDELETE FROM d;\r\nEND",
            "CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM d;END",
            "CREATE TRIGGER t AFTER INSERT ON a BEGIN UPDATE d SET a = (CASE WHEN 1 THEN 2 END); END",
            "CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM \"an END of\"; END",
            "CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM d -- it's\n; END",
        ] {
            assert!(!whole(cut), "{cut}");
        }
    }
}
