//! A migration of something that has nothing to do with Clerk, on `rehome-core` alone.
//!
//! A library moves. Its books are entered into a new catalogue, which gives each one a *shelf mark*
//! of its own choosing, and its open loans are rewritten to name the books by those marks. The new
//! catalogue is the kind of remote that migrations are about: entering a book twice makes two
//! books, and one answer in five never arrives.
//!
//! ```sh
//! cargo run -p rehome-core --example library_loans -- /tmp/library --crash-after 40
//! cargo run -p rehome-core --example library_loans -- /tmp/library   # the same command goes on
//! ```
//!
//! `--crash-after N` aborts the process in the worst moment: the N-th entry is on the new shelf, and
//! nobody has been told. Run it as often as you like; every book is there once in the end.
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io};

use futures::future::{BoxFuture, ready};
use rehome_core::clock::SystemClock;
use rehome_core::engine::{Engine, Interrupt, Settings};
use rehome_core::journal::{Journal, Setup, check_replay};
use rehome_core::progress::Progress;
use rehome_core::*;
use serde_json::{Value, json};

const BOOK: Kind = Kind::new("book");
const LOAN: Kind = Kind::new("loan");
const BOOKS: u64 = 200;
const LOANS: u64 = 120;

/// The remote: a folder in which the catalogue keeps one file per entry.
struct Catalogue {
    folder: PathBuf,
    /// Random answers, and how many entries are left until the crash.
    moods: Mutex<(fastrand::Rng, Option<u64>)>,
}

impl Catalogue {
    /// Makes an entry under the next free mark. `None`: the answer was lost on the way back.
    fn enter(&self, prefix: &str, entry: &Value) -> io::Result<Option<String>> {
        let mut moods = self.moods.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = format!("{prefix}-{:04}", fs::read_dir(&self.folder)?.count());
        fs::write(self.folder.join("../draft"), entry.to_string())?;
        fs::rename(self.folder.join("../draft"), self.folder.join(&mark))?;
        if let Some(left) = &mut moods.1 {
            *left -= 1;
            if *left == 0 {
                std::process::abort();
            }
        }
        Ok((moods.0.u8(0..5) > 0).then_some(mark))
    }

    /// Every mark by the old number that its entry carries: how a lost answer is settled.
    fn marks(&self, prefix: &str) -> io::Result<BTreeMap<String, Vec<String>>> {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for file in fs::read_dir(&self.folder)? {
            let mark = file?.file_name().to_string_lossy().into_owned();
            if mark.starts_with(prefix) {
                let entry: Value = serde_json::from_slice(&fs::read(self.folder.join(&mark))?)?;
                let was = entry["was"].as_str().unwrap_or_default().to_owned();
                found.entry(was).or_default().push(mark);
            }
        }
        Ok(found)
    }
}

/// What cannot be read ends the run; the same command goes on later.
fn halt(error: &io::Error) -> Halt {
    Halt::Remote {
        remote: "the new catalogue".into(),
        trouble: RemoteTrouble::Unreachable,
        message: error.to_string(),
        hint: "see whether the folder is there, then run the same command again".into(),
    }
}

/// Reads the old library, 50 at a time. The cursor is journaled with each page, so that a killed
/// export goes on behind the last page that is on the disk.
struct OldLibrary(Kind, u64);

impl Source for OldLibrary {
    fn kind(&self) -> Kind {
        self.0.clone()
    }

    fn next_page<'a>(&'a self, cursor: Option<Value>) -> BoxFuture<'a, Result<Page, Halt>> {
        let start = cursor.and_then(|cursor| cursor.as_u64()).unwrap_or(0);
        let end = (start + 50).min(self.1);
        let unit = |n| Exported {
            source_key: format!("old-{}-{n}", self.0),
            scope: String::new(),
            label: Some(format!("{} no. {n}", self.0)),
            aliases: Vec::new(),
            // Of a loan: which book. Of a book: its title. Later stages see nothing but this.
            data: json!({ "book": format!("old-book-{}", n * 7 % BOOKS), "title": format!("Vol. {n}") }),
        };
        let units = (start..end).map(unit).collect();
        let page = Page { units, cursor: json!(end), done: end == self.1, total: Some(self.1) };
        Box::pin(ready(Ok(page)))
    }
}

/// Enters books, or loans once their book has its mark. The same worker does both.
struct Enter {
    step: Step,
    prefix: &'static str,
    catalogue: Arc<Catalogue>,
    known: Arc<dyn Knowledge>,
}

impl Enter {
    /// What is to be done with one unit; only reads.
    fn decide(&self, unit: &Unit, pass: Pass) -> Result<Prepared, Halt> {
        // The intent is durable before anything happens; what `apply` needs goes along in memory.
        let effect = |entry: Value| Prepared::Effect {
            intent: json!({ "prefix": self.prefix }),
            payload: Box::new(entry),
        };
        if unit.kind == BOOK {
            return Ok(effect(json!({ "was": unit.source_key, "title": unit.data["title"] })));
        }
        let book = unit.data["book"].as_str().unwrap_or_default().to_owned();
        let known = self.known.by_source(&BOOK, std::slice::from_ref(&book))?;
        Ok(match (known.get(&book), pass) {
            (Some(known), _) if known.state.stage >= Stage::Created => {
                effect(json!({ "was": unit.source_key, "book": known.target_key }))
            }
            // Within this run the book may still come; the engine asks again when all have.
            (_, Pass::Patient) => {
                Prepared::Wait(WaitFor::Settled { kind: BOOK, scope: None, stage: Stage::Created })
            }
            // It will not (it failed): a hold, which a later run releases when the book is there.
            (_, Pass::Final) => {
                Prepared::Hold { waits: vec![book_missing(book)], blocks: Vec::new() }
            }
        })
    }
}

fn book_missing(book: String) -> Wait {
    let (code, key) = ("book_missing".into(), Some(book));
    Wait { code, kind: BOOK, key, scope: None, stage: Stage::Created, parts: 1, example: None }
}

fn created(mark: &str) -> Done {
    Done { target: Some(mark.to_owned()), origin: Some(Origin::Created), ..Done::default() }
}

impl Transition for Enter {
    fn step(&self) -> Step {
        self.step.clone()
    }

    /// A folder shows an entry at once. A remote with replicas needs a while.
    fn settle_time(&self) -> Duration {
        Duration::ZERO
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        pass: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        Box::pin(ready(units.iter().map(|unit| self.decide(unit, pass)).collect()))
    }

    fn apply<'a>(
        &'a self,
        _: &'a Unit,
        payload: Box<dyn Any + Send + Sync>,
    ) -> BoxFuture<'a, Outcome> {
        let entry = payload.downcast::<Value>().unwrap_or_default();
        Box::pin(ready(match self.catalogue.enter(self.prefix, &entry) {
            Ok(Some(mark)) => Outcome::Done(created(&mark)),
            // Never "failed", never "once more": it may be there.
            Ok(None) => Outcome::Unknown { reason: "the answer was lost".into() },
            Err(error) => Outcome::Unknown { reason: error.to_string() },
        }))
    }

    fn probe<'a>(&'a self, units: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        let look = |marks: BTreeMap<String, Vec<String>>| {
            let found = |unit: &Unit| match marks.get(&unit.source_key).map(Vec::as_slice) {
                None | Some([]) => Probed::Absent,
                Some([mark]) => Probed::Done(created(mark)),
                Some(several) => Probed::Conflict(Failure::new("twice", several.join(", "))),
            };
            units.iter().map(found).collect()
        };
        Box::pin(ready(self.catalogue.marks(self.prefix).map(look).map_err(|error| halt(&error))))
    }
}

fn engine(journal: &Arc<Journal>, catalogue: &Arc<Catalogue>) -> Result<Engine, Box<dyn Error>> {
    let known: Arc<dyn Knowledge> = Arc::new(journal.reader()?);
    let enter = |kind, to, prefix| Enter {
        step: Step {
            kind,
            way: Way::Forth { from: Stage::Exported, to },
            batch: 20,
            concurrency: 4,
        },
        prefix,
        catalogue: Arc::clone(catalogue),
        known: Arc::clone(&known),
    };
    let watcher = Arc::new(|progress: &Progress| match progress {
        Progress::Started { resumed } => println!("{}", if *resumed { "going on" } else { "new" }),
        Progress::InDoubt { source_key, .. } => println!("in doubt: {source_key}"),
        _ => {}
    });
    Ok(Engine::new(Arc::clone(journal), watcher, Settings::default())
        .source(Arc::new(OldLibrary(BOOK, BOOKS)))
        .source(Arc::new(OldLibrary(LOAN, LOANS)))
        .transition(Arc::new(enter(BOOK, Stage::Created, "B")))
        .transition(Arc::new(enter(LOAN, Stage::Imported, "L"))))
}

#[tokio::main]
#[allow(clippy::disallowed_methods, reason = "an example is its own command line")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, crash_after) = match arguments.as_slice() {
        [folder] => (Path::new(folder), None),
        [folder, flag, n] if flag == "--crash-after" => (Path::new(folder), Some(n.parse()?)),
        _ => return Err("usage: library_loans FOLDER [--crash-after N]".into()),
    };
    fs::create_dir_all(folder.join("new"))?;
    let moods = Mutex::new((fastrand::Rng::with_seed(7), crash_after));
    let catalogue = Arc::new(Catalogue { folder: folder.join("new"), moods });

    // The setup pins what the journal belongs to: against another library it would be refused.
    let pins = BTreeMap::from([("catalogue".into(), folder.display().to_string())]);
    let setup = Setup { name: "library".into(), pins };
    let path = folder.join("library.journal");
    let journal = Arc::new(Journal::open(&path, &setup, Arc::new(SystemClock))?);
    let finish = engine(&journal, &catalogue)?.run(&Interrupt::default()).await?;

    println!("{finish:?}");
    for (kind, standing) in journal.reader()?.counts()? {
        println!("{kind}: {:?}, {} in all", standing.moving, standing.total());
    }
    let books = catalogue.marks("B")?;
    let twice = books.values().filter(|marks| marks.len() > 1).count();
    println!("on the new shelf: {} books, {twice} of them twice", books.len());
    // The log alone must give every state again.
    let scratch = folder.join("replayed");
    if scratch.exists() {
        fs::remove_file(&scratch)?;
    }
    check_replay(&path, &scratch)?;
    if twice > 0 || books.len() as u64 != BOOKS { Err("books were lost".into()) } else { Ok(()) }
}
