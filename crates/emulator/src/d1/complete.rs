//! Cutting a file of SQL into statements the way `/import` does it: as SQLite's own shell would.
//!
//! A statement ends at `;` outside quotes and comments; one that creates a trigger ends at the `;`
//! behind an `END` that follows a `;` (the rules of `sqlite3_complete`). So triggers are safe here,
//! in any spelling, unlike in a text that goes through `/query`.

/// Where the reader is within a statement that may create a trigger.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing but space so far.
    Start,
    /// Behind `CREATE`, and perhaps `TEMP`.
    Create,
    /// In the body of a trigger.
    Trigger,
    /// Behind a `;` of the body.
    Semicolon,
    /// Behind an `END` that follows such a `;`.
    End,
    /// In any other statement.
    Normal,
}

/// The statements of `sql`, in order, each without its `;`.
pub(crate) fn statements(sql: &str) -> Vec<&str> {
    let bytes = sql.as_bytes();
    let (mut found, mut start, mut at, mut place) = (Vec::new(), 0, 0, Place::Start);
    while let Some(&byte) = bytes.get(at) {
        let next = match byte {
            b'\'' | b'"' | b'`' => past(bytes, at + 1, &[byte]),
            b'[' => past(bytes, at + 1, b"]"),
            b'-' if bytes.get(at + 1) == Some(&b'-') => {
                at = past(bytes, at + 2, b"\n");
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at = past(bytes, at + 2, b"*/");
                continue;
            }
            _ if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            b';' => {
                if matches!(place, Place::Trigger | Place::Semicolon) {
                    place = Place::Semicolon;
                } else {
                    push(&mut found, sql, start, at);
                    (start, place) = (at + 1, Place::Start);
                }
                at += 1;
                continue;
            }
            _ if byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80 => {
                let rest = bytes.get(at..).unwrap_or_default();
                let length = rest
                    .iter()
                    .position(|b| !(b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80));
                at + length.unwrap_or(rest.len())
            }
            _ => at + 1,
        };
        place = after(place, sql.get(at..next).unwrap_or_default());
        at = next;
    }
    push(&mut found, sql, start, sql.len());
    found
}

/// The place behind a word or any other token.
fn after(place: Place, token: &str) -> Place {
    let is = |word: &str| token.eq_ignore_ascii_case(word);
    match place {
        Place::Start if is("CREATE") => Place::Create,
        Place::Start if is("EXPLAIN") => Place::Start,
        Place::Create if is("TEMP") || is("TEMPORARY") => Place::Create,
        Place::Create if is("TRIGGER") => Place::Trigger,
        Place::Semicolon if is("END") => Place::End,
        Place::Start | Place::Create | Place::Normal => Place::Normal,
        Place::Trigger | Place::Semicolon | Place::End => Place::Trigger,
    }
}

fn push<'a>(found: &mut Vec<&'a str>, sql: &'a str, from: usize, to: usize) {
    let statement = sql.get(from..to).unwrap_or_default().trim();
    if !statement.is_empty() {
        found.push(statement);
    }
}

/// The place after the next `end`, or the end of the text.
fn past(bytes: &[u8], from: usize, end: &[u8]) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    rest.windows(end.len())
        .position(|window| window == end)
        .map_or(bytes.len(), |position| from + position + end.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triggers_quotes_and_comments_are_kept_whole() {
        let sql = "create table t (a, [b;c]); -- ;\n/* ; */ insert into t values (';', \"x;\");
            Create Temp Trigger r after insert on t begin
              select case when 1 then ';' end; update t set a = 'end;'; end
            ; select 1;; ";
        let found = statements(sql);
        assert_eq!(found.len(), 4, "{found:#?}");
        assert!(found[1].ends_with("\"x;\")") && found[2].ends_with("end"), "{found:#?}");
        assert_eq!(found[3], "select 1");
        assert!(statements("").is_empty());
        assert_eq!(statements("select 'open ; ").len(), 1);
    }
}
