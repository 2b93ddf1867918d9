//! An assertion inside the request: as many rows carry one of the ids at its end as at its start.
//!
//! A statement that exchanges an id cannot say what else its change has set off: a foreign key's
//! action, or something nobody thought of. So each column's rows under either id of a pair are
//! counted when the rows in the way are gone and before anything is exchanged, and counted again
//! when everything is; so are those whose reference over several columns is complete. The numbers
//! differ when a row has lost its id, or when one that carried none has got one; then nothing of the
//! request happens, and the database's own words name the column.
//!
//! Between statements only a table can keep a number (D1 knows no temporary ones), so the request
//! makes one and drops it again. It is part of the same transaction: nobody ever sees it.

use super::pairs::Pair;
use super::places::Places;
use crate::database::{Statement, quote_name};

/// So many numbers are kept in one table, well below what D1 allows a table to have columns.
const COLUMNS: usize = 50;

/// The statements around an exchange.
pub(super) struct Tally {
    /// Before it.
    pub(super) before: Vec<Statement>,
    /// After it.
    pub(super) after: Vec<Statement>,
}

/// One number.
struct Counted {
    /// What has become of the rows when it differs.
    lost: String,
    /// The number as SQL.
    count: String,
}

impl Tally {
    /// Of the plain columns, for an exchange of these pairs in either direction.
    pub(super) fn of(places: &Places, pairs: &[Pair]) -> Self {
        let both: Vec<_> = pairs.iter().flat_map(|pair| [&pair.old, &pair.new]).collect();
        let both = serde_json::json!(both).to_string();
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (number, counted) in counted(places).chunks(COLUMNS).enumerate() {
            let name = quote_name(&format!("rehome_tally_{number}"));
            let each = |words: &dyn Fn(usize, &Counted) -> String| -> String {
                let all: Vec<_> =
                    counted.iter().enumerate().map(|(at, one)| words(at, one)).collect();
                all.join(", ")
            };
            before.push(Statement::new(format!(
                "CREATE TABLE {name} (turned INTEGER, {}, {})",
                each(&|at, _| format!("c{at} INTEGER")),
                each(&|at, one| format!(
                    "CONSTRAINT {} CHECK (turned = 0 OR c{at} = 0)",
                    quote_name(&one.lost)
                ))
            )));
            let sql = format!("INSERT INTO {name} SELECT 0, {}", each(&|_, one| one.count.clone()));
            before.push(Statement::with(sql, both.clone()));
            let left = each(&|at, one| format!("c{at} = c{at} - {}", one.count));
            let sql = format!("UPDATE {name} SET turned = 1, {left}");
            after.push(Statement::with(sql, both.clone()));
            after.push(Statement::new(format!("DROP TABLE {name}")));
        }
        Self { before, after }
    }
}

fn counted(places: &Places) -> Vec<Counted> {
    let mut all = Vec::new();
    for (table, place) in places.plain() {
        let of = table.form.target_table();
        all.push(Counted {
            lost: format!("ids in {} would get lost", place.label),
            count: format!("(SELECT count(*) FROM {of} AS t WHERE {})", place.holds("t")),
        });
    }
    // An action empties all columns of a reference, those that are no ids too.
    for reference in places.references.iter().filter(|one| one.pairs.len() > 1) {
        let Some((table, place)) = places.at(reference.child) else { continue };
        let whole: Vec<_> =
            reference.pairs.iter().map(|(_, child)| format!("t.{child} IS NOT NULL")).collect();
        all.push(Counted {
            lost: format!("references of {} would get lost", place.label),
            count: format!(
                "(SELECT count(*) FROM {} AS t WHERE {} AND {})",
                table.form.target_table(),
                place.holds("t"),
                whole.join(" AND ")
            ),
        });
    }
    all
}
