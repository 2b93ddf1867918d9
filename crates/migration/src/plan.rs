//! What a run would do, found out by reading only.
//!
//! The source's users are exported into a scratch journal in the system's folder for temporary
//! files (readable by its owner alone, removed at the end), because judging one user takes
//! knowledge of all of them: whether another claims the same address, for example. Then the same
//! [`rehome_clerk::Matcher`] that a run uses decides about each, so that a plan cannot differ from a run in
//! judgement, only in time. Whose account is there already is known from then on, and so are the
//! rows that it has in the target's database: what they collide with is named, as a run would.
//!
//! Where a migration has begun, the scratch journal is a copy of its journal: whoever is mapped is
//! known by both ids, and what was written of rows is known too. So after a run in which all has
//! arrived there is nothing to do, and later there is what the next run would bring. The journal
//! itself is only read.

mod users;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rehome_clerk::UserSource;
use rehome_core::Knowledge;
use rehome_core::clock::Clock;
use rehome_core::engine::{Engine, Finish, Interrupt, Settings};
use rehome_core::journal::{Journal, Reader};
use rehome_core::progress::{Progress, Watcher};
use rehome_records::Select;
use rehome_records::in_place::Places;
use rehome_records::plan::Spans;
use sha2::{Digest as _, Sha256};

use crate::config::{Config, RecordsConfig};
use crate::connect::{Databases, Remotes};
use crate::document::{PlanDoc, TablePlan, UserPlan};
use crate::error::Error;
use crate::{downtime, in_place, ledger, room, undeclared};

/// Requests to the target for each user besides its creation: look-ups, reading the pair back,
/// and the comparison, as measured over a varied population.
const BESIDES: f64 = 0.05;
/// The pacer's own margin, see [`rehome_core::pacer`].
const MARGIN: f64 = 1.02;

/// Works out a plan.
pub(crate) async fn plan(
    config: &Config,
    remotes: &Remotes,
    watcher: &Watcher,
    clock: &Arc<dyn Clock>,
) -> Result<PlanDoc, Error> {
    let scratch = tempfile::Builder::new().prefix("rehome-plan-").tempdir().map_err(|source| {
        rehome_core::journal::Error::File {
            doing: "create a scratch folder beside",
            path: std::path::PathBuf::from("the journal"),
            source,
        }
    })?;
    let setup = remotes.setup(config);
    let begun = ledger::has_begun(config)?;
    let journal = Arc::new(rehearsal(config, remotes, begun, &scratch.path().join("plan"), clock)?);
    let engine = Engine::new(Arc::clone(&journal), Arc::clone(watcher), Settings::default())
        .source(Arc::new(UserSource::new(remotes.source.reader.clone())));
    match engine.run(&Interrupt::default()).await? {
        Finish::Quiescent | Finish::Interrupted => {}
    }
    let reader = Arc::new(journal.reader()?);
    let mut users = users::users(config, remotes, &journal, &reader, watcher).await?;
    if begun {
        users::since(config, remotes, &reader, watcher, &mut users).await?;
    }
    let (tables, order, undeclared) = match (&remotes.databases, &config.records) {
        (Some(databases), Some(records)) => rows(databases, records, &reader, watcher).await?,
        _ => (BTreeMap::new(), Vec::new(), Vec::new()),
    };
    let requests = requests(&users);
    let share = config.target.clerk.rate_share.0;
    let rate = remotes.target.rate;
    let per_second = f64::from(rate.requests) / rate.window.as_secs_f64() * share / MARGIN;
    let refused = remotes
        .databases
        .iter()
        .flat_map(|databases| &databases.findings)
        .chain([&room::look(config, users.total)])
        .any(|finding| finding.severity == crate::document::Severity::Refused);
    Ok(PlanDoc {
        migration: setup.name,
        pins: setup.pins,
        fingerprint: fingerprint(config, remotes).await?,
        users,
        tables,
        order,
        ok: !refused && undeclared.is_empty() && remotes.source.id != remotes.target.id,
        undeclared,
        imported: downtime::due(config, remotes).await?.map(|downtime| downtime.rows),
        requests,
        seconds: (requests as f64 / per_second).ceil() as u64,
    })
}

/// The journal in which the plan is worked out: a new one, or a copy of the one that has begun.
fn rehearsal(
    config: &Config,
    remotes: &Remotes,
    begun: bool,
    path: &Path,
    clock: &Arc<dyn Clock>,
) -> Result<Journal, Error> {
    let setup = remotes.setup(config);
    if begun {
        let real = Reader::open(&config.journal_path())?;
        real.setup()?.unwrap_or_default().accepts(&setup)?;
        real.copy_to(path)?;
    }
    Ok(Journal::open_with(path, &setup, Arc::clone(clock), config.wiring().journal())?)
}

fn requests(users: &UserPlan) -> u64 {
    let moving = users.total - users.done.min(users.total);
    users.create + users.change + (moving as f64 * BESIDES).ceil() as u64 + 3
}

type Rows = (BTreeMap<String, TablePlan>, Vec<String>, Vec<String>);

async fn rows(
    databases: &Databases,
    records: &RecordsConfig,
    reader: &Arc<Reader>,
    watcher: &Watcher,
) -> Result<Rows, Error> {
    watcher.note(&Progress::Verifying { what: "rows of the plan".into(), done: 0, total: None });
    if let Some(places) = &databases.places {
        return rows_in_place(databases, places, records, reader, watcher).await;
    }
    let planned = Box::pin(rehome_records::plan::plan(
        Arc::clone(&databases.source),
        Arc::clone(&databases.target),
        Arc::clone(reader) as Arc<dyn Knowledge>,
        Arc::clone(&databases.layout),
        records.policy(),
        Some(Arc::clone(reader) as Arc<dyn Spans>),
    ))
    .await?;
    let counts = row_counts(databases).await?;
    let mut tables = BTreeMap::new();
    let mut order = Vec::new();
    for (table, (_, target_rows)) in planned.into_iter().zip(counts) {
        let id_columns = databases.ids.of(&table.table).map(column_in_words).collect();
        order.push(table.table.clone());
        let plan = TablePlan {
            rows: table.rows,
            target_rows,
            insert: table.insert,
            update: table.update,
            remove: table.remove,
            overtaken: table.overtaken,
            equal: table.equal,
            replace: table.replace,
            conflict: table.conflict,
            held: table.held,
            skipped: table.skipped,
            rewrite: 0,
            keys_move_by: table.moved,
            conflicts: table.examples,
            id_columns,
        };
        tables.insert(table.table, plan);
    }
    let undeclared = undeclared::scan(databases, records, reader.as_ref()).await?;
    Ok((tables, order, undeclared))
}

/// In place nothing is inserted or compared: rows are counted in which ids would change.
async fn rows_in_place(
    databases: &Databases,
    places: &Places,
    records: &RecordsConfig,
    reader: &Arc<Reader>,
    watcher: &Watcher,
) -> Result<Rows, Error> {
    let mut rewrite = in_place::count(databases, places, reader, watcher).await?;
    let counts = row_counts(databases).await?;
    let mut tables = BTreeMap::new();
    let mut order = Vec::new();
    for (table, (rows, _)) in databases.layout.tables.iter().zip(counts) {
        let rewrite = rewrite.remove(&table.name).unwrap_or(0).min(rows);
        let id_columns = databases.ids.of(&table.name).map(column_in_words).collect();
        order.push(table.name.clone());
        let plan = TablePlan {
            rows,
            target_rows: rows,
            rewrite,
            equal: rows - rewrite,
            id_columns,
            ..TablePlan::default()
        };
        tables.insert(table.name.clone(), plan);
    }
    let undeclared = undeclared::scan(databases, records, reader.as_ref()).await?;
    Ok((tables, order, undeclared))
}

fn column_in_words(column: &rehome_records::ids::IdColumn) -> String {
    let place = match &column.path {
        Some(path) => format!("{}:{path}", column.column),
        None => column.column.clone(),
    };
    match &column.follows {
        Some(declared) => format!("{place} (follows {declared})"),
        None => place,
    }
}

/// Rows of each table of the layout: (source, target).
async fn row_counts(databases: &Databases) -> Result<Vec<(u64, u64)>, Error> {
    let questions = || -> Vec<Select> {
        let tables = databases.layout.tables.iter();
        let quoted = tables.map(|table| rehome_records::database::quote_name(&table.name));
        quoted.map(|table| Select::new(["count(*)"], format!("FROM {table}"))).collect()
    };
    let number = |rows: &rehome_records::Rows| -> u64 {
        let value = rows.first().and_then(|row| row.first());
        value.and_then(rehome_records::Value::as_integer).map_or(0, i64::unsigned_abs)
    };
    let source = databases.source.select(questions()).await?;
    let target = databases.target.select(questions()).await?;
    Ok(source.iter().map(number).zip(target.iter().map(number)).collect())
}

/// What a plan depends on, in short: who is migrated to whom, how many users and rows there are.
async fn fingerprint(config: &Config, remotes: &Remotes) -> Result<String, Error> {
    let mut hash = Sha256::new();
    let setup = remotes.setup(config);
    hash.update(setup.name.as_bytes());
    for (what, pin) in &setup.pins {
        hash.update(format!("\n{what}={pin}").as_bytes());
    }
    let source = remotes.source.reader.count().await?;
    let target = remotes.target.reader.count().await?;
    hash.update(format!("\nusers {source} {target}").as_bytes());
    if let Some(databases) = &remotes.databases {
        hash.update(format!("\nrows {:?}", row_counts(databases).await?).as_bytes());
    }
    let digest = hash.finalize();
    Ok(digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

/// Checks that what a plan was made for is still there: the same migration, and with `content`
/// the same numbers of users and rows.
pub(crate) async fn still_holds(
    agreed: &PlanDoc,
    config: &Config,
    remotes: &Remotes,
    content: bool,
) -> Result<(), Error> {
    let setup = remotes.setup(config);
    if agreed.migration != setup.name || agreed.pins != setup.pins {
        return Err(Error::StalePlan("it was made for another migration".to_owned()));
    }
    if content && agreed.fingerprint != fingerprint(config, remotes).await? {
        return Err(Error::StalePlan(
            "the number of users or rows has changed since it was made".to_owned(),
        ));
    }
    Ok(())
}
