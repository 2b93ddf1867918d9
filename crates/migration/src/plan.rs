//! What a run would do, found out by reading only.
//!
//! The source's users are exported into a scratch journal in the system's folder for temporary
//! files (readable by its owner alone, removed at the end), because judging one user takes
//! knowledge of all of them: whether another claims the same address, for example. Then the same
//! [`Matcher`] that a run uses decides about each, so that a plan cannot differ from a run in
//! judgement, only in time. Whose account is there already is known from then on, and so are the
//! rows that it has in the target's database: what they collide with is named, as a run would.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use rehome_clerk::{Decision, Journaled, Matcher, USER, UserSource};
use rehome_core::clock::Clock;
use rehome_core::engine::{Engine, Finish, Interrupt, Settings};
use rehome_core::journal::{Change, Detail, Journal, Reader};
use rehome_core::progress::{Progress, Watcher};
use rehome_core::{Event, Knowledge, Origin, Pass, Stage, Unit, UnitId};
use rehome_records::Select;
use rehome_records::in_place::Places;
use sha2::{Digest as _, Sha256};

use crate::config::{Config, RecordsConfig};
use crate::connect::{Databases, Remotes};
use crate::document::{PlanDoc, TablePlan, UserPlan};
use crate::error::Error;
use crate::{downtime, in_place, room, undeclared};

/// How many users are judged at once: enough to fill look-ups of a hundred.
const BATCH: usize = 400;
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
    let journal = Arc::new(Journal::open(&scratch.path().join("plan"), &setup, Arc::clone(clock))?);
    let engine = Engine::new(Arc::clone(&journal), Arc::clone(watcher), Settings::default())
        .source(Arc::new(UserSource::new(remotes.source.reader.clone())));
    match engine.run(&Interrupt::default()).await? {
        Finish::Quiescent | Finish::Interrupted => {}
    }
    let reader = Arc::new(journal.reader()?);
    let users = users(config, remotes, &journal, &reader, watcher).await?;
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

fn requests(users: &UserPlan) -> u64 {
    let moving = users.total - users.done.min(users.total);
    users.create + (moving as f64 * BESIDES).ceil() as u64 + 3
}

async fn users(
    config: &Config,
    remotes: &Remotes,
    journal: &Journal,
    reader: &Arc<Reader>,
    watcher: &Watcher,
) -> Result<UserPlan, Error> {
    let knowledge = Arc::clone(reader) as Arc<dyn Knowledge>;
    let policy = config.users.policy();
    let matcher = Matcher::new(remotes.target.reader.clone(), knowledge, policy.clone());
    // What the real journal has done already is not to be done again.
    let real = Reader::open(&config.journal_path()).ok();
    if let Some(bound) = real.as_ref().and_then(|real| real.setup().ok().flatten())
        && let Some(at) = bound.scrubbed()
    {
        return Err(rehome_core::journal::Error::Scrubbed { at: at.to_owned() }.into());
    }
    let mut plan = UserPlan::default();
    let mut after = UnitId(0);
    let total = reader.counts()?.get(&USER).map(rehome_core::journal::Standing::total);
    loop {
        let units = reader.ready(&USER, Stage::Exported, after, BATCH)?;
        let Some(last) = units.last() else { break };
        after = last.id;
        let keys: Vec<_> = units.iter().map(|unit| unit.source_key.clone()).collect();
        let known = match &real {
            Some(real) => real.by_source(&USER, &keys)?,
            None => std::collections::HashMap::new(),
        };
        let (done, open): (Vec<Unit>, Vec<Unit>) = units.into_iter().partition(|unit| {
            known.get(&unit.source_key).is_some_and(|known| known.state.stage >= Stage::Created)
        });
        plan.total += (done.len() + open.len()) as u64;
        plan.done += done.len() as u64;
        for unit in done.iter().chain(&open) {
            not_carried(&mut plan, unit);
        }
        let mut known = Vec::new();
        for (unit, decision) in open.iter().zip(matcher.decide(&open, Pass::Final).await?) {
            match decision {
                Decision::Create => plan.create += 1,
                Decision::Adopt { target, .. } => {
                    plan.adopt += 1;
                    known.push((unit.id, target, Origin::Adopted));
                }
                Decision::Ours { target } => {
                    plan.adopt += 1;
                    known.push((unit.id, target, Origin::Created));
                }
                Decision::Skip(_) => plan.skip += 1,
                Decision::Fail(failure) => *plan.fail.entry(failure.code).or_default() += 1,
                Decision::Wait => {
                    *plan.fail.entry("undecided".to_owned()).or_default() += 1;
                }
            }
        }
        // The application may have rows of theirs already, with which ours will collide.
        journal.submit(pairs(reader, known)?).await?;
        let what = "users of the plan".to_owned();
        watcher.note(&Progress::Verifying { what, done: plan.total, total });
    }
    Ok(plan)
}

/// What the plan's own journal is told of users whose account is there already. Of two with one
/// account a run fails the second.
fn pairs(reader: &Reader, known: Vec<(UnitId, String, Origin)>) -> Result<Vec<Change>, Error> {
    let targets: Vec<_> = known.iter().map(|(_, target, _)| target.clone()).collect();
    let mut taken: HashSet<String> = reader.by_target(&USER, &targets)?.into_keys().collect();
    let mut changes = Vec::new();
    for (unit, target, origin) in known {
        if taken.insert(target.clone()) {
            let detail = Detail { target: Some(target), origin: Some(origin), ..Detail::default() };
            changes.push(Change::Step { unit, event: Event::Advanced(Stage::Created), detail });
            changes.push(Change::step(unit, Event::Advanced(Stage::Mapped)));
        }
    }
    Ok(changes)
}

/// What a user has that no request can give an account.
fn not_carried(plan: &mut UserPlan, unit: &Unit) {
    let Ok(journaled) = Journaled::of(unit) else { return };
    for name in journaled.profile.not_carried.into_keys() {
        *plan.not_carried.entry(name).or_default() += 1;
    }
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
