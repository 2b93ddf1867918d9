//! `journal rebuild`: a lost journal, made anew from what the source and the target still show.
//!
//! Only reads: every source user is exported again, the accounts that carry their keys are looked
//! up by the hundred, and each pair is read back as a run does it. All of it goes through the
//! ordinary journal, into a file beside the lost one's place, which takes its name at the end. So
//! it is whole or not there, and its log is one that could have happened.
//!
//! What cannot be known is not guessed: who made an account (see [`rehome_clerk::recover`]), and
//! which rows were there before. Rows are not asked for at all. The next run reads them again and
//! finds those that arrived: equal, and therefore nobody's to take back. Because those rows would
//! stay, the accounts that they name must stay too: with rows, every account counts as adopted.

use std::collections::BTreeMap;
use std::sync::Arc;

use rehome_clerk::recover::Finding;
use rehome_clerk::{MapUsers, Recovery, USER, UserSource};
use rehome_core::clock::Clock;
use rehome_core::engine::{Engine, Finish, Interrupt, Settings};
use rehome_core::journal::{Change, Detail, Journal, Reader, Vacancy};
use rehome_core::progress::Watcher;
use rehome_core::{Event, Halt, Knowledge, Origin, Stage, Unit, UnitId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::Config;
use crate::connect::{Keys, Remotes};
use crate::error::Error;
use crate::run;

/// The word of the note that a journal was built anew.
pub(super) const NOTE: &str = "rebuilt";

/// How many users are looked up at once.
const BATCH: usize = 1000;

/// `journal rebuild --json`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct RebuildDoc {
    /// Where the journal is to be.
    pub journal: String,
    /// Users of the source, all of which it holds.
    pub users: u64,
    /// Of those: their account in the target was found by its key and read back.
    pub pairs: u64,
    /// Of the pairs: the account counts as made by the lost migration; a rollback deletes it.
    pub created: u64,
    /// Of the pairs: the account counts as found; a rollback leaves it alone.
    pub adopted: u64,
    /// Users whom nothing in the target answers to: the next run creates them.
    pub absent: u64,
    /// Users with an account that shares an identifier but no key: the next run judges them.
    pub by_identifier: u64,
    /// Users who need a person, by code.
    pub unclear: BTreeMap<String, u64>,
    /// Whether the journal is there now.
    pub installed: bool,
}

/// A journal that was made and has not taken its place.
#[derive(Debug)]
pub struct Rebuilt {
    /// What is in it.
    pub document: RebuildDoc,
    vacancy: Vacancy,
}

impl Rebuilt {
    /// Puts it in the place of the lost one.
    ///
    /// # Errors
    /// When something has come there meanwhile, or a file error.
    pub fn install(mut self) -> Result<RebuildDoc, Error> {
        self.vacancy.install()?;
        self.document.installed = true;
        Ok(self.document)
    }

    /// Throws it away.
    ///
    /// # Errors
    /// A file error.
    pub fn discard(self) -> Result<RebuildDoc, Error> {
        self.vacancy.discard()?;
        Ok(self.document)
    }
}

/// Rows under new keys cannot be told from the target's own without the journal that moved them: they
/// would come a second time.
fn refuse_moved_keys(remotes: &Remotes) -> Result<(), Error> {
    let tables = remotes.databases.iter().flat_map(|databases| &databases.layout.tables);
    let moved: Vec<&str> =
        tables.filter(|table| table.rekeyed().is_some()).map(|table| table.name.as_str()).collect();
    if moved.is_empty() {
        return Ok(());
    }
    Err(Error::Halt(Halt::Refused {
        message: format!(
            "only the lost journal knows by how much the keys of {} were moved (`rekey`); rows that \
             have arrived would come a second time",
            moved.join(", ")
        ),
        hint:
            "restore the target to the moment before (a copy, or D1's Time Travel) and begin anew; \
               or exclude those tables"
                .to_owned(),
    }))
}

/// Makes a journal from both sides, beside its place. `since` (Unix milliseconds) is when the lost
/// migration began, if accounts made since then are to count as created. `None` when interrupted.
///
/// # Errors
/// [`Error::RowsStay`] for a `since` where rows belong to the migration; [`Halt::Refused`] where
/// keys were moved;
/// [`rehome_core::journal::Error::Exists`] when there is a journal; when a remote cannot be read.
pub async fn rebuild(
    config: &Config,
    keys: &Keys,
    since: Option<i64>,
    watcher: &Watcher,
    interrupt: &Interrupt,
    clock: Arc<dyn Clock>,
) -> Result<Option<Rebuilt>, Error> {
    if since.is_some() && config.records.is_some() {
        return Err(Error::RowsStay);
    }
    let path = config.journal_path();
    // Held to the end; whichever way that is, what was made and not installed goes with it.
    let vacancy = Vacancy::claim(&path)?;
    let remotes = Remotes::connect(config, keys, &clock).await?;
    run::refuse(&remotes)?;
    refuse_moved_keys(&remotes)?;
    let mode = config.wiring().journal();
    let journal =
        Journal::open_with(vacancy.made(), &remotes.setup(config), Arc::clone(&clock), mode)?;
    let work = Work { config, remotes: &remotes, journal: Arc::new(journal), watcher, clock };
    let finished = work.all(since, interrupt).await;
    let Work { journal, .. } = work;
    // The last one to hold it: the file is closed and whole afterwards.
    drop(journal);
    Ok(finished?.map(|mut document| {
        document.journal = path.display().to_string();
        Rebuilt { document, vacancy }
    }))
}

struct Work<'a> {
    config: &'a Config,
    remotes: &'a Remotes,
    journal: Arc<Journal>,
    watcher: &'a Watcher,
    clock: Arc<dyn Clock>,
}

impl Work<'_> {
    fn engine(&self) -> Engine {
        let seed = self.clock.now().as_millisecond().unsigned_abs();
        let settings = Settings { seed, ..Settings::default() };
        Engine::new(Arc::clone(&self.journal), Arc::clone(self.watcher), settings)
    }

    async fn all(
        &self,
        since: Option<i64>,
        interrupt: &Interrupt,
    ) -> Result<Option<RebuildDoc>, Error> {
        let source = Arc::new(UserSource::new(self.remotes.source.reader.clone()));
        if self.engine().source(source).run(interrupt).await? == Finish::Interrupted {
            return Ok(None);
        }
        let reader = Arc::new(self.journal.reader()?);
        let knowledge: Arc<dyn Knowledge> = Arc::clone(&reader) as Arc<dyn Knowledge>;
        let (target, policy) = (&self.remotes.target.reader, self.config.users.policy());
        let recovery = Recovery::new(target.clone(), Arc::clone(&knowledge), policy.clone(), since);
        let mut document = tokio::select! {
            biased;
            () = interrupt.thrown() => return Ok(None),
            paired = self.pair(&reader, &recovery) => paired?,
        };
        let map = Arc::new(MapUsers::new(target.clone(), knowledge, policy));
        if self.engine().transition(map).run(interrupt).await? == Finish::Interrupted {
            return Ok(None);
        }
        count(&reader, &mut document)?;
        let note = json!({
            "users": document.users, "pairs": document.pairs, "created": document.created,
            "adopted": document.adopted,
        });
        self.journal.submit(vec![Change::Note { event: NOTE, detail: note }]).await?;
        Ok(Some(document))
    }

    /// Journals what the target knows of every user.
    async fn pair(&self, reader: &Reader, recovery: &Recovery) -> Result<RebuildDoc, Error> {
        let mut document = RebuildDoc::default();
        let mut after = UnitId(0);
        loop {
            let units = reader.ready(&USER, Stage::Exported, after, BATCH)?;
            let Some(last) = units.last() else { return Ok(document) };
            after = last.id;
            let mut changes = Vec::new();
            for (unit, finding) in units.iter().zip(recovery.recover(&units).await?) {
                match finding {
                    Finding::Pair { target, origin, intent } => {
                        changes.extend(steps(unit, &target, origin, intent));
                    }
                    Finding::Nobody => document.absent += 1,
                    Finding::ByIdentifier => document.by_identifier += 1,
                    Finding::Unclear(failure) => {
                        *document.unclear.entry(failure.code).or_default() += 1;
                    }
                }
            }
            if !changes.is_empty() {
                self.journal.submit(changes).await?;
            }
        }
    }
}

/// What the log says of a pair: what a run would have written about it.
fn steps(
    unit: &Unit,
    target: &str,
    origin: Origin,
    intent: Option<rehome_clerk::settle::Intent>,
) -> Vec<Change> {
    let detail = |data| Detail {
        target: Some(target.to_owned()),
        origin: Some(origin),
        reason: Some("found again by `journal rebuild`".to_owned()),
        data,
        ..Detail::default()
    };
    match intent {
        None => vec![Change::Step {
            unit: unit.id,
            event: Event::Advanced(Stage::Created),
            detail: detail(Some(json!({ "by": "external_id" }))),
        }],
        Some(intent) => vec![
            Change::intent(unit.id, Event::Intended, json!(intent)),
            Change::Step {
                unit: unit.id,
                event: Event::Done(Stage::Created),
                detail: detail(None),
            },
        ],
    }
}

/// Counts the pairs that were read back, and what stopped others.
fn count(reader: &Reader, document: &mut RebuildDoc) -> Result<(), Error> {
    let mut after = UnitId(0);
    loop {
        let pairs = reader.mappings(&USER, after, BATCH)?;
        let Some(last) = pairs.last() else { break };
        after = last.id;
        for pair in pairs {
            document.pairs += 1;
            match pair.origin {
                Some(Origin::Created) => document.created += 1,
                Some(Origin::Adopted) | None => document.adopted += 1,
            }
        }
    }
    for (kind, _, code, units) in reader.codes()? {
        if kind == USER {
            *document.unclear.entry(code).or_default() += units;
        }
    }
    let standing = reader.counts()?.remove(&USER).unwrap_or_default();
    document.users = standing.total();
    Ok(())
}
