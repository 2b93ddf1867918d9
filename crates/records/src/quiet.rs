//! Writing without triggers.
//!
//! No switch of SQLite keeps triggers from firing, but DDL is part of a transaction, on D1 too
//! (measured). So the one atomic request that writes rows also drops the triggers of their table
//! before, and creates them again after, from the text that the database keeps of them: which
//! gives the same text again. Either all of it happens or nothing; nobody, neither the application
//! nor a process that comes after a kill, ever sees the table without its triggers, and so there is
//! nothing to journal and nothing to repair.
//!
//! A guard before the first drop holds the request to the triggers that were read when this
//! process began. If the application's own migration changed them meanwhile, nothing is written,
//! and nothing of the application's is overwritten with an older text.

use std::collections::BTreeSet;

use rehome_core::Halt;

use crate::database::{
    ReadDatabase, Refusal, Select, Statement, WriteDatabase, Written, guard, quote_name,
};
use crate::layout::Form;
use crate::schema::Trigger;
use crate::value::Value;

/// The same request, under which no trigger of the form's table fires but those that keep a
/// full-text index.
pub(crate) fn quietly(form: &Form, request: Vec<Statement>) -> Vec<Statement> {
    let quiet: Vec<&Trigger> = form.triggers.iter().filter(|one| !one.keeps_index).collect();
    let mut out = as_known(form);
    out.extend(
        quiet.iter().map(|one| Statement::new(format!("DROP TRIGGER {}", quote_name(&one.name)))),
    );
    out.extend(request);
    out.extend(quiet.iter().map(|one| Statement::new(one.sql.clone())));
    out
}

/// Sends a request that [`quietly`] made for these forms, once. When a guard refuses it because
/// the triggers are not those that were read, the run has to end: no later attempt knows them
/// better.
pub(crate) async fn write(
    target: &dyn WriteDatabase,
    forms: &[&Form],
    request: Vec<Statement>,
) -> Written {
    let written = target.write(request).await;
    if let Written::Refused { refusal: Refusal::Guard, message } = &written {
        for form in forms {
            let known: BTreeSet<_> =
                form.triggers.iter().map(|one| (one.name.clone(), one.sql.clone())).collect();
            // What cannot be read now shows itself at the next look.
            if let Ok(there) = triggers(target, form).await
                && there != known
            {
                return Written::NotSent {
                    reason: message.clone(),
                    retry_after: None,
                    halt: Some(changed(&form.target_table)),
                };
            }
        }
    }
    written
}

fn changed(table: &str) -> Halt {
    Halt::Refused {
        message: format!(
            "the triggers of {table} changed after this run had read the schema; nothing has been \
             written to it since"
        ),
        hint: "run again when the schema stands still".to_owned(),
    }
}

/// Name and text of the triggers of the form's table, as they are now. A set, because those that
/// are created again come to stand behind those that keep an index.
async fn triggers(
    target: &dyn ReadDatabase,
    form: &Form,
) -> Result<BTreeSet<(String, String)>, Halt> {
    let table = Value::text(form.target_table.clone()).to_sql();
    let query = Select::new(
        ["m.name", "m.sql"],
        format!(
            "FROM sqlite_master AS m WHERE m.type = 'trigger' \
             AND m.tbl_name = {table} COLLATE NOCASE"
        ),
    );
    let rows = target.select(vec![query]).await?.pop().unwrap_or_default();
    let text = |row: &[Value], index: usize| {
        row.get(index).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    Ok(rows.iter().map(|row| (text(row, 0), text(row, 1))).collect())
}

/// Guards that the table has exactly the triggers that are known.
fn as_known(form: &Form) -> Vec<Statement> {
    let table = Value::text(form.target_table.clone()).to_sql();
    let mut out = vec![Statement::new(guard(&format!(
        "(SELECT count(*) FROM sqlite_master AS m WHERE m.type = 'trigger' \
         AND m.tbl_name = {table} COLLATE NOCASE) <> {}",
        form.triggers.len()
    )))];
    out.extend(form.triggers.iter().map(|one| Statement {
        sql: guard(
            "NOT EXISTS (SELECT 1 FROM sqlite_master AS m WHERE m.type = 'trigger' \
             AND m.name = ?1 AND m.sql = ?2)",
        ),
        params: vec![one.name.clone(), one.sql.clone()],
    }));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::IdColumns;
    use crate::layout::{Keying, Layout};
    use crate::schema::{self, Selection};
    use crate::sqlite::SqliteWriter;

    #[tokio::test]
    async fn another_order_of_the_same_triggers_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sqlite");
        let sql = "CREATE TABLE t (id INTEGER PRIMARY KEY, a);
             CREATE VIRTUAL TABLE f USING fts5(a, content='');
             CREATE TRIGGER quiet AFTER INSERT ON t BEGIN SELECT 1; END;
             CREATE TRIGGER i AFTER INSERT ON t BEGIN INSERT INTO f VALUES (new.a); END;
             CREATE TRIGGER u AFTER UPDATE ON t BEGIN UPDATE f SET a = new.a; END;
             CREATE TRIGGER d AFTER DELETE ON t BEGIN DELETE FROM f; END;";
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let database = SqliteWriter::open(&path).unwrap();
        let schema = schema::read(&database, &Selection::default()).await.unwrap();
        let layout = Layout::new(&schema, &schema, &IdColumns::default());
        let form = layout.form("t", Keying::Primary).unwrap();
        let silent: Vec<_> = form.triggers.iter().filter(|one| !one.keeps_index).collect();
        assert_eq!((silent.len(), form.triggers.len()), (1, 4));

        let written = write(&database, &[form], quietly(form, Vec::new())).await;
        assert!(matches!(written, Written::Done { .. }), "{written:?}");
        let race = quietly(form, vec![Statement::new(guard("1"))]);
        let refused = write(&database, &[form], race).await;
        let guarded = matches!(refused, Written::Refused { refusal: Refusal::Guard, .. });
        assert!(guarded, "{refused:?}");
    }
}
