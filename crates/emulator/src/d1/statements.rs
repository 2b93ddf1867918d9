//! Cutting a text of SQL into statements the way Cloudflare's front does it, before SQLite sees any.
//!
//! The cut is at `;` outside quotes and comments. Bodies of triggers are kept whole only when
//! `BEGIN`, `CASE` and `END` are upper-case and stand between spaces, tabs or line feeds: a lower-case
//! `end`, or CRLF line ends, cut the trigger into pieces that fail. That is D1's behaviour
//! (workers-sdk issues 14991 and 15178), and a client that copies triggers has to write around it.

/// The statements of `sql`, in order, without those that hold only white space and comments.
pub(crate) fn split(sql: &str) -> Vec<&str> {
    let bytes = sql.as_bytes();
    let mut statements = Vec::new();
    let (mut start, mut at, mut depth, mut substance) = (0, 0, 0_usize, false);
    while let Some(&byte) = bytes.get(at) {
        let next = match byte {
            b'\'' | b'"' | b'`' => skip_past(bytes, at + 1, &[byte]),
            b'-' if bytes.get(at + 1) == Some(&b'-') => {
                at = skip_past(bytes, at + 2, b"\n");
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at = skip_past(bytes, at + 2, b"*/");
                continue;
            }
            b';' if depth == 0 => {
                if substance {
                    statements.push(slice(sql, start, at));
                }
                (start, at, substance) = (at + 1, at + 1, false);
                continue;
            }
            b'B' if word(bytes, at, b"BEGIN") => {
                depth += 1;
                at + b"BEGIN".len()
            }
            b'C' if depth > 0 && word(bytes, at, b"CASE") => {
                depth += 1;
                at + b"CASE".len()
            }
            b'E' if depth > 0 && word(bytes, at, b"END") => {
                depth -= 1;
                at + b"END".len()
            }
            _ => at + 1,
        };
        substance |= !byte.is_ascii_whitespace();
        at = next;
    }
    if substance {
        statements.push(slice(sql, start, sql.len()));
    }
    statements
}

/// The cuts are at ASCII bytes, so they are always on character boundaries.
fn slice(sql: &str, from: usize, to: usize) -> &str {
    sql.get(from..to).unwrap_or_default().trim()
}

/// The place after the next `end`, or the end of the text.
fn skip_past(bytes: &[u8], from: usize, end: &[u8]) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    rest.windows(end.len())
        .position(|window| window == end)
        .map_or(bytes.len(), |found| from + found + end.len())
}

/// Whether `word` stands at `at` between the white space that the splitter knows.
fn word(bytes: &[u8], at: usize, word: &[u8]) -> bool {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n');
    let before = at.checked_sub(1).and_then(|before| bytes.get(before));
    let after = bytes.get(at + word.len());
    bytes.get(at..).is_some_and(|rest| rest.starts_with(word))
        && before.is_some_and(is_space)
        && after.is_none_or(|byte| is_space(byte) || (word == b"END" && *byte == b';'))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn cuts_only_outside_quotes_and_comments() {
        assert_eq!(
            split("select ';'; select \"a;b\" -- x;y\n; /* ; */ select `;`;"),
            ["select ';'", "select \"a;b\" -- x;y", "/* ; */ select `;`"]
        );
        assert_eq!(split("select 'it''s; so'"), ["select 'it''s; so'"]);
    }

    #[test]
    fn drops_what_holds_no_statement() {
        assert_eq!(split(" ; -- nothing\n ;; /* ; */"), Vec::<&str>::new());
        assert_eq!(split("select 1; -- done"), ["select 1"]);
    }

    #[test]
    fn keeps_a_trigger_whole_in_the_canonical_spelling_only() {
        let canonical = "CREATE TRIGGER t AFTER INSERT ON a BEGIN\n UPDATE a SET b = CASE WHEN c \
                         THEN 1 ELSE 2 END ; DELETE FROM d; END";
        assert_eq!(split(&format!("{canonical}; select 1")), [canonical, "select 1"]);
        assert_eq!(split("CREATE TRIGGER t AFTER INSERT ON a begin delete from d; end;").len(), 2);
        assert_eq!(
            split("CREATE TRIGGER t AFTER INSERT ON a BEGIN\r\nDELETE FROM d;\r\nEND;").len(),
            2
        );
    }

    #[test]
    fn unfinished_quotes_and_comments_do_not_fail() {
        for text in ["select '", "select \"a", "/* x", "-- x", "", "é;é", "select 1 /"] {
            drop(split(text));
        }
    }
}
