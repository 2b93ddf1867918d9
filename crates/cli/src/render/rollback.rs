//! The page of `rollback`: what goes, what comes back, what stays and why.

use std::collections::BTreeMap;

use rehome_migration::document::{RefusalDoc, RestoreDoc, RollbackDoc, RowsBack, UsersBack};

use super::amount;
use super::style::Style;
use super::table::table;

/// So many refusals of a code are named on a page; `--json` names a thousand in all.
const NAMED: usize = 5;

/// Whether there is nothing to tell of: no account, no row, no doubt. Rows that nobody asked for do
/// not count.
pub(crate) fn is_nothing(document: &RollbackDoc) -> bool {
    let RollbackDoc { in_doubt, restore, users, tables, refusals, more_refusals, .. } = document;
    let untouched = |rows: &RowsBack| {
        *rows == RowsBack { left: rows.left, kept: rows.kept.clone(), ..RowsBack::default() }
            && rows.kept.values().all(|kept| *kept == 0)
    };
    (*in_doubt, *more_refusals) == (0, 0)
        && restore.is_none()
        && *users == UsersBack::default()
        && refusals.is_empty()
        && tables.values().all(untouched)
}

/// What would go, or what went and was to go.
pub(crate) fn page(document: &RollbackDoc, style: Style) -> String {
    if is_nothing(document) {
        return format!("nothing is left to take back to `{}`", document.to);
    }
    let would = |future: &str, past: &str| {
        if document.dry_run { future.to_owned() } else { past.to_owned() }
    };
    let mut text = format!(
        "{}\n\n",
        style.bold(format!(
            "{} back to `{}`{}",
            document.migration,
            document.to,
            if document.dry_run { ": what would happen" } else { "" }
        ))
    );
    if document.in_doubt > 0 {
        text += &format!(
            "{} in doubt; a rollback finds out first, and then these numbers may change\n\n",
            amount::of(document.in_doubt, "unit")
        );
    }
    if let Some(RestoreDoc { database, bookmark, taken_at }) = &document.restore {
        text += &format!(
            "{}\n  the whole database {database} goes back to {taken_at}\n  bookmark {bookmark}\n  \
             every row that anybody, your application included, has written, changed or deleted \
             there since\n  is lost; no row is looked at, and other tables are not spared\n\n",
            style.red("last resort: restore")
        );
    }
    let users = &document.users;
    let mut line = |number: u64, what: &str| {
        if number > 0 {
            text += &format!("  {:>10}  {what}\n", amount::count(number));
        }
    };
    line(users.delete, &would("accounts would be deleted", "accounts to delete"));
    line(users.forced, "of them were used or changed since, and are forced");
    line(users.keep, "users whose account stays as it is");
    line(users.gone, "accounts are not there any more");
    line(
        users.refused,
        "accounts stay: somebody has used or changed them since, or rows that stay name them",
    );
    if !document.tables.is_empty() {
        let rows: Vec<Vec<String>> = document
            .tables
            .iter()
            .map(|(name, rows)| {
                let kept: u64 = rows.kept.values().sum();
                [name.clone()]
                    .into_iter()
                    .chain(
                        [rows.remove, rows.restore, rows.rewrite, rows.gone, kept]
                            .map(amount::count),
                    )
                    .collect()
            })
            .collect();
        let forced: u64 = document.tables.values().map(|rows| rows.forced).sum();
        let header = ["table", "removed", "given back", "ids put back", "gone already", "stay"];
        text += &format!("\n{}\n", table(&header, &[1, 2, 3, 4, 5], &rows));
        if forced > 0 {
            text += &format!(
                "\n{} of these were changed since, or come back into an emptied place, and are forced\n",
                amount::of(forced, "row")
            );
        }
    }
    text += &refusals(document, style);
    text.trim_end().to_owned()
}

fn refusals(document: &RollbackDoc, style: Style) -> String {
    let mut by_code: BTreeMap<&str, Vec<&RefusalDoc>> = BTreeMap::new();
    for refusal in &document.refusals {
        by_code.entry(&refusal.code).or_default().push(refusal);
    }
    let mut text = String::new();
    for (code, named) in by_code {
        text += &format!("\n{} ({})\n", style.yellow(code), amount::count(named.len() as u64));
        for refusal in named.iter().take(NAMED) {
            let name = format!("{} {}", refusal.what, refusal.key);
            // A row's message begins with its name.
            text += &match refusal.message.strip_prefix(&name) {
                Some(rest) => format!("  {name}{rest}\n"),
                None => format!("  {name}: {}\n", refusal.message),
            };
        }
        if named.len() > NAMED {
            text += &format!("  and {} more\n", named.len() - NAMED);
        }
    }
    if document.more_refusals > 0 {
        text += &format!("\n{} more stay\n", amount::count(document.more_refusals));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_is_left_one_sentence_says_so() {
        let table = |rows: RowsBack| BTreeMap::from([("badges".to_owned(), rows)]);
        let zeros = RowsBack { left: 7, kept: [("x".into(), 0)].into(), ..RowsBack::default() };
        let to = || "exported".to_owned();
        let nothing = RollbackDoc { to: to(), tables: table(zeros), ..RollbackDoc::default() };
        let sentence = "nothing is left to take back to `exported`";
        assert_eq!(page(&nothing, Style::PLAIN), sentence);
        for rows in [
            RowsBack { remove: 1, ..RowsBack::default() },
            RowsBack { gone: 1, ..RowsBack::default() },
            RowsBack { kept: [("row_changed".into(), 1)].into(), ..RowsBack::default() },
        ] {
            let some = RollbackDoc { to: to(), tables: table(rows), ..RollbackDoc::default() };
            assert!(page(&some, Style::PLAIN).contains("badges"));
        }
        for some in [
            RollbackDoc { in_doubt: 1, ..nothing.clone() },
            RollbackDoc { users: UsersBack { keep: 1, ..UsersBack::default() }, ..nothing.clone() },
            RollbackDoc { restore: Some(RestoreDoc::default()), ..nothing.clone() },
            RollbackDoc { more_refusals: 1, ..nothing },
        ] {
            assert!(!is_nothing(&some), "{some:?}");
        }
    }
}
