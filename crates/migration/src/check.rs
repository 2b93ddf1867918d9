//! Preflight: everything that can be known to be wrong before anything is written.
//!
//! Each remote is looked at on its own, so that one wrong key does not hide the next finding.

use std::sync::Arc;

use rehome_core::clock::Clock;
use rehome_core::journal::{self, Difference, Reader};
use rehome_core::{Halt, RemoteTrouble};
use rehome_records::rekey;

use crate::config::Config;
use crate::connect::{self, Databases, Instance, Keys, Remotes};
use crate::document::{CheckDoc, Finding, Severity};
use crate::error::Error;
use crate::finding::{self, advise, fine, same_instance};
use crate::{ledger, room, undeclared};

/// Clerk's cap on users of a development instance, since 2026-02-20.
const DEVELOPMENT_USERS: u64 = 100;

/// Looks at everything that a run needs. Never fails: what cannot be looked at is a finding.
pub async fn check(config: &Config, keys: &Keys, clock: Arc<dyn Clock>) -> CheckDoc {
    let mut findings = Vec::new();
    let source = connect::source_instance(config, keys, &clock).await;
    let target = connect::target_instance(config, keys, &clock).await;
    let users = instance(&mut findings, connect::SOURCE_CLERK, &source).await;
    let present = instance(&mut findings, connect::TARGET_CLERK, &target).await;
    if let (Ok(source), Ok(target)) = (&source, &target) {
        if source.id == target.id {
            findings.push(same_instance(&source.id));
        }
        capacity(&mut findings, target, users.unwrap_or(0), present.unwrap_or(0));
    }
    let databases = connect::both_databases(config, keys).await;
    match &databases {
        Ok(None) => findings.push(fine("databases", "no databases: only Clerk is migrated")),
        Ok(Some(databases)) => {
            let (tables, to) = (databases.layout.tables.len(), databases.target.identity());
            findings.push(match databases.places {
                Some(_) => fine("databases", format!("{to}, in place, {tables} tables")),
                None => {
                    let from = databases.source.identity();
                    fine("databases", format!("{from} to {to}, {tables} tables"))
                }
            });
            findings.extend(databases.findings.iter().cloned());
            if let Err(error) = rows(&mut findings, config, databases).await {
                findings.push(refusal("databases", &error));
            }
        }
        Err(error) => findings.push(refusal("databases", error)),
    }
    findings.push(room::look(config, users.unwrap_or(0)));
    let remotes = match (source, target, databases) {
        (Ok(source), Ok(target), Ok(databases)) => Some(Remotes { source, target, databases }),
        _ => None,
    };
    journal(&mut findings, config, remotes.as_ref());
    time(&mut findings, config, clock.as_ref());
    let ok = findings.iter().all(|finding| finding.severity != Severity::Refused);
    CheckDoc { ok, findings }
}

/// What only a look at the rows tells: ids where nobody said that ids are, and keys that have no room
/// to move. Once a migration has begun, its journal says where keys go, and a run does not look for
/// ids any more.
async fn rows(
    findings: &mut Vec<Finding>,
    config: &Config,
    databases: &Databases,
) -> Result<(), Error> {
    let Some(records) = &config.records else { return Ok(()) };
    // A journal that cannot be read has a finding of its own.
    let begun = ledger::has_begun(config).unwrap_or(false);
    let severity = if begun { Severity::Warning } else { Severity::Refused };
    let found = undeclared::before_any_user_is_known(databases, records).await?;
    findings.extend(found.into_iter().map(|found| finding::undeclared(found, severity)));
    if !begun {
        let Databases { layout, source, target, .. } = databases;
        if let Err(halt) = rekey::room_for(layout, source.as_ref(), target.as_ref()).await {
            findings.push(refusal("rekey", &halt.into()));
        }
    }
    Ok(())
}

/// Who the instance is, and how many users it holds.
async fn instance(
    findings: &mut Vec<Finding>,
    role: &str,
    found: &Result<Instance, Error>,
) -> Option<u64> {
    let code = if role == connect::SOURCE_CLERK { "source_clerk" } else { "target_clerk" };
    let instance = match found {
        Ok(instance) => instance,
        Err(error) => {
            findings.push(refusal(code, error));
            return None;
        }
    };
    match instance.reader.count().await {
        Ok(users) => {
            findings.push(fine(
                code,
                format!(
                    "the {role} is {} ({}), with {users} users; {} requests in {} s are allowed",
                    instance.id,
                    instance.environment,
                    instance.rate.requests,
                    instance.rate.window.as_secs()
                ),
            ));
            Some(users)
        }
        Err(halt) => {
            findings.push(refusal(code, &halt.into()));
            None
        }
    }
}

/// Whether the target can hold what comes.
fn capacity(findings: &mut Vec<Finding>, target: &Instance, users: u64, present: u64) {
    if target.environment == "development" && users + present > DEVELOPMENT_USERS {
        findings.push(advise(
            Severity::Warning,
            "development_cap",
            format!(
                "the target is a development instance: Clerk refuses more than \
                 {DEVELOPMENT_USERS} users there, and {users} are to join {present}"
            ),
            "move to a production instance, or try with `rehome run --limit N`",
        ));
    }
    if present > 0 {
        findings.push(advise(
            Severity::Note,
            "target_not_empty",
            format!("the target holds {present} users already"),
            "`rehome plan` says which of them would be adopted",
        ));
    }
}

fn journal(findings: &mut Vec<Finding>, config: &Config, remotes: Option<&Remotes>) {
    let path = config.journal_path();
    let reader = match Reader::open(&path) {
        Ok(reader) => reader,
        Err(journal::Error::Missing(_)) => {
            findings.push(fine("journal", format!("a new journal: {}", path.display())));
            return;
        }
        Err(error) => {
            findings.push(refusal("journal", &error.into()));
            return;
        }
    };
    if journal::is_running(&path) {
        findings.push(advise(
            Severity::Warning,
            "journal_in_use",
            "another run uses the journal just now",
            "`rehome status` shows it; a second run would be refused",
        ));
    }
    let (Ok(Some(bound)), Some(remotes)) = (reader.setup(), remotes) else {
        findings.push(fine("journal", format!("a journal exists: {}", path.display())));
        return;
    };
    if let Some(at) = bound.scrubbed() {
        findings.push(refusal(
            "journal_scrubbed",
            &journal::Error::Scrubbed { at: at.to_owned() }.into(),
        ));
        return;
    }
    let differences = bound.differences(&remotes.setup(config));
    if differences.is_empty() {
        findings.push(fine("journal", format!("{} is resumed", path.display())));
        return;
    }
    findings.push(advise(
        Severity::Refused,
        "other_migration",
        format!("the journal belongs to another migration: {}", in_words(&differences)),
        "use the configuration it was made with, or set `migration.journal` to a new file",
    ));
}

/// Differences as one line.
pub(crate) fn in_words(differences: &[Difference]) -> String {
    let shown = |side: &Option<String>| side.clone().unwrap_or_else(|| "nothing".to_owned());
    let one = |difference: &Difference| {
        let Difference { what, journal, found } = difference;
        format!("{what}: the journal has {}, found {}", shown(journal), shown(found))
    };
    differences.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// A clock that runs behind what was journaled: where a target does not date its answers, new
/// accounts would look like old ones. Nothing is refused for it, because they are dated as a rule.
fn time(findings: &mut Vec<Finding>, config: &Config, clock: &dyn Clock) {
    let now = clock.now().as_millisecond();
    let last =
        Reader::open(&config.journal_path()).ok().and_then(|reader| reader.last_at().ok()?);
    match last {
        Some(last) if last > now + 60_000 => findings.push(advise(
            Severity::Warning,
            "clock",
            format!("this machine's clock is {} s behind the journal", (last - now) / 1000),
            "set the clock: where a target does not date its answers, this clock helps to decide \
             whether an account is ours",
        )),
        _ => findings.push(fine("clock", "this machine's clock is plausible")),
    }
}

/// An error as a finding that refuses.
fn refusal(code: &str, error: &Error) -> Finding {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        message = format!("{message}: {source}");
        cause = source.source();
    }
    let hint = match error {
        Error::Halt(Halt::Remote { hint, .. } | Halt::Refused { hint, .. }) => hint.clone(),
        Error::NoLocalD1 { .. } => crate::NO_LOCAL_D1.to_owned(),
        Error::Database { source, .. } => source.hint().to_owned(),
        Error::Journal(_) => "`rehome status` says what to do about it".to_owned(),
        Error::Halt(Halt::Journal(_) | Halt::Bug(_))
        | Error::Config(_)
        | Error::Key { .. }
        | Error::Refused(_)
        | Error::StalePlan(_)
        | Error::ForceCount { .. }
        | Error::ForcedSince { .. }
        | Error::NoBookmark
        | Error::OtherBookmark { .. }
        | Error::Downtime(_)
        | Error::RestoreIsWhole
        | Error::NotRestored { .. }
        | Error::RestoreInDoubt { .. }
        | Error::UnknownKey(_)
        | Error::RowsStay
        | Error::Unfinished { .. }
        | Error::NotNow { .. } => "correct it in the configuration, then check again".to_owned(),
    };
    let severity = match error {
        Error::Halt(Halt::Remote { trouble: RemoteTrouble::Quota, .. }) => Severity::Warning,
        _ => Severity::Refused,
    };
    advise(severity, code, message, hint)
}
