//! `rehome demo`: a whole migration, killed in the middle, on this machine alone.
//!
//! Nothing is played: the emulator answers as Clerk does and at Clerk's own rate, the run is this
//! very program as a child process, and the kill is a SIGKILL. What happened is then told by the
//! emulator's counters, not by rehome.

mod child;
mod stage;

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use rehome_migration::document::{Status, Verdict};
use serde::Serialize;
use tokio::process::Child;

use crate::context::Context;
use crate::failure::Failure;
use crate::render::amount;
use crate::{exit, out};
use stage::{ADOPTED, ROWS, Stage, USERS};

/// The run is killed when it has created so many accounts.
const KILL_AT: u64 = USERS as u64 * 2 / 5;
/// How often the emulator is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// `demo --json`
#[derive(Debug, Serialize)]
struct Told {
    folder: String,
    users: u64,
    rows: u64,
    accounts_when_killed: u64,
    created: u64,
    created_twice: u64,
    adopted: u64,
    most_requests_in_ten_seconds: u64,
    ok: bool,
    verdict: Verdict,
}

/// Shows the migration from the stage to the verdict.
pub(crate) async fn demo(context: &Context) -> Result<u8, Failure> {
    let story = Story { context };
    story.tell(&context.style.bold(format!(
        "{} people move to another Clerk instance, and {} rows that name them move along.",
        amount::count(USERS as u64),
        amount::count(ROWS as u64),
    )))?;
    let stage = Stage::set().await?;
    story.step(
        1,
        &format!(
            "Two Clerk instances and two SQLite databases, all on this machine. The target takes\n   \
             1,000 requests in 10 s, like a real one, and {ADOPTED} of the people are there already.\n   {}",
            context.style.dim(stage.folder.display().to_string())
        ),
    )?;
    let killed_at = first_run(&story, &stage).await?;
    let code = second_run(&story, &stage).await?;
    let told = evidence(&story, &stage, killed_at)?;
    let verdict = verify(&story, &stage).await?;
    let ok = verdict.ok && told.created_twice == 0;
    if context.json {
        out::print_json(&Told { ok, verdict, ..told })?;
    } else {
        journal(&story, &stage, code).await?;
        next(&story, &stage)?;
    }
    let folder = stage.folder.clone();
    stage.emulator.shutdown().await;
    context.notes.say(&format!("the folder {} is kept", folder.display()));
    Ok(if ok { exit::DONE } else { exit::UNFINISHED })
}

/// Starts the migration, and kills it.
async fn first_run(story: &Story<'_>, stage: &Stage) -> Result<u64, Failure> {
    story.step(2, &story.command("rehome run --yes"))?;
    let mut run = stage.rehome().start(&["run", "--yes"], "run-1.log")?;
    let bar = story.bar();
    let killed = loop {
        bar.set_position(stage.accounts());
        if stage.created() >= KILL_AT {
            run.start_kill().map_err(|error| Failure::Demo {
                command: "kill -9".to_owned(),
                source: error.into(),
            })?;
            break true;
        }
        if ended(&mut run).await?.is_some() {
            break false;
        }
    };
    let _reaped = run.wait().await;
    bar.finish_and_clear();
    let accounts = stage.accounts();
    if !killed {
        return Err(stage.rehome().failed("run", "run-1.log"));
    }
    let text = stage.rehome().output(&["status", "--json"], &[0]).await?;
    let status: Status = serde_json::from_str(&text)
        .map_err(|error| Failure::Demo { command: "status".to_owned(), source: error.into() })?;
    let doubt: u64 = status.units.values().map(|units| units.in_doubt).sum();
    story.tell(&format!(
        "   {} at {} of {}; answers on their way to it are lost.\n   The journal knows what was \
         under way: {}. Nobody is sent again before the target was asked.",
        story.context.style.red("Killed with SIGKILL"),
        amount::of(accounts, "account"),
        amount::count(USERS as u64),
        amount::of(doubt, "unit"),
    ))?;
    Ok(accounts)
}

/// The same command again, to the end.
async fn second_run(story: &Story<'_>, stage: &Stage) -> Result<i32, Failure> {
    let command = story.command("rehome run");
    story.step(3, &format!("{command}   The same command: it goes on where it stopped."))?;
    let mut run = stage.rehome().start(&["run", "--yes"], "run-2.log")?;
    let bar = story.bar();
    let code = loop {
        bar.set_position(stage.accounts());
        if stage.accounts() == USERS as u64 {
            bar.set_message("everybody is there; rows follow, then both sides are compared");
        }
        if let Some(code) = ended(&mut run).await? {
            break code;
        }
    };
    bar.finish_and_clear();
    match code {
        0 => story.tell("   Done: everybody and everything has arrived.")?,
        3 => story.tell("   Done, but something stands aside; see below.")?,
        _ => return Err(stage.rehome().failed("run", "run-2.log")),
    }
    Ok(code)
}

/// The exit code, once it has ended; after a short wait otherwise. A killed process counts as -1.
async fn ended(run: &mut Child) -> Result<Option<i32>, Failure> {
    match tokio::time::timeout(LOOK, run.wait()).await {
        Ok(Ok(status)) => Ok(Some(status.code().unwrap_or(-1))),
        Ok(Err(error)) => {
            Err(Failure::Demo { command: "rehome run".to_owned(), source: error.into() })
        }
        Err(_still_running) => Ok(None),
    }
}

/// What happened, counted by the other side.
fn evidence(story: &Story<'_>, stage: &Stage, killed_at: u64) -> Result<Told, Failure> {
    let counters = stage.target.counters();
    let twice = counters.creates_by_external_id.values().filter(|times| **times > 1).count();
    let told = Told {
        folder: stage.folder.display().to_string(),
        users: USERS as u64,
        rows: ROWS as u64,
        accounts_when_killed: killed_at,
        created: counters.creates,
        created_twice: twice as u64,
        adopted: (USERS as u64).saturating_sub(counters.creates),
        most_requests_in_ten_seconds: counters.max_in_window,
        ok: false,
        verdict: Verdict::default(),
    };
    story.step(
        4,
        &format!(
            "What the target itself counted, over both runs:\n   {} created, {} twice; {} were \
             there already and were adopted;\n   never more than {} requests in 10 s, of 1,000 \
             allowed.",
            amount::of(told.created, "account"),
            if told.created_twice == 0 {
                story.context.style.green("none")
            } else {
                story.context.style.red(told.created_twice)
            },
            told.adopted,
            told.most_requests_in_ten_seconds,
        ),
    )?;
    Ok(told)
}

/// Both sides, compared afresh.
async fn verify(story: &Story<'_>, stage: &Stage) -> Result<Verdict, Failure> {
    let command = story.command("rehome verify");
    story.step(5, &format!("{command}   Both sides, read afresh and compared field by field:"))?;
    let text = stage.rehome().output(&["verify", "--json"], &[0, 3]).await?;
    let verdict: Verdict = serde_json::from_str(&text)
        .map_err(|error| Failure::Demo { command: "verify".to_owned(), source: error.into() })?;
    let rows: u64 = verdict.tables.values().map(|table| table.equal).sum();
    let differ = verdict.missing + verdict.different + verdict.unchecked;
    let rest = if differ == 0 {
        story.context.style.green("nothing is missing or differs")
    } else {
        story.context.style.red(format!("{} differ or are missing", amount::count(differ)))
    };
    story.tell(&format!(
        "   {} and {} are the same on both sides; {rest};\n   {} old ids are left in the target.",
        amount::of(verdict.users.equal, "user"),
        amount::of(rows, "row"),
        if verdict.orphan_ids == 0 { "no".to_owned() } else { amount::count(verdict.orphan_ids) },
    ))?;
    Ok(verdict)
}

/// What the journal tells: who became whom, and what stands aside.
async fn journal(story: &Story<'_>, stage: &Stage, code: i32) -> Result<(), Failure> {
    let command = story.command("rehome map");
    story.step(6, &format!("{command}   Every old id with its new one:"))?;
    let map = stage.rehome().output(&["map"], &[0]).await?;
    for line in map.lines().take(4) {
        story.tell(&format!("   {}", story.context.style.dim(line)))?;
    }
    if code != i32::from(exit::DONE) {
        story.tell(&format!("\n   {}", story.command("rehome failures")))?;
        for line in stage.rehome().output(&["failures"], &[0]).await?.lines().take(12) {
            story.tell(&format!("   {line}"))?;
        }
    }
    Ok(())
}

/// Where to look next. The emulator ends with the demonstration; the journal stays.
fn next(story: &Story<'_>, stage: &Stage) -> Result<(), Failure> {
    let config = stage.config().display().to_string();
    let one = stage.people.first().and_then(|(_, address)| address.clone()).unwrap_or_default();
    let line = |words: &[&str], what: &str| {
        let mut all = vec!["rehome"];
        all.extend(words);
        all.extend(["--config", &config]);
        let command = shlex::try_join(all.iter().copied()).unwrap_or_else(|_| all.join(" "));
        format!("   {}\n      {what}", story.context.style.cyan(command))
    };
    story.tell(&format!("\n{}", story.context.style.bold("Where to look next")))?;
    story.tell(&line(&["status"], "where everything stands"))?;
    story.tell(&line(&["show", &one], "one user: both ids, and every step in the journal"))?;
    story.tell(&format!(
        "   {}\n      the file behind it all; `rehome init` writes one for your own instances",
        story.context.style.cyan(format!("cat {config}"))
    ))
}

/// The telling of it.
struct Story<'a> {
    context: &'a Context,
}

impl Story<'_> {
    fn tell(&self, text: &str) -> Result<(), Failure> {
        if self.context.json { Ok(()) } else { out::print(text) }
    }

    fn step(&self, number: u8, text: &str) -> Result<(), Failure> {
        self.tell(&format!("\n{}  {text}", self.context.style.bold(number)))
    }

    fn command(&self, command: &str) -> String {
        self.context.style.cyan(format!("$ {command}"))
    }

    /// Accounts in the target, on a terminal.
    fn bar(&self) -> ProgressBar {
        let bar = self.context.notes.bars.add(ProgressBar::new(USERS as u64));
        let style =
            ProgressStyle::with_template("   {bar:40.cyan/dim} {pos:>5} of {len} accounts {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─"));
        bar
    }
}
