//! `rehome emulate`: the emulator, filled, for rehearsals and for tests in any language.

use std::sync::Arc;
use std::time::Duration;

use rehome_emulator::d1::{self, D1, DatabaseSpec, verifieddit};
use rehome_emulator::{
    Emulator, EmulatorConfig, Environment, FaultPlan, Instance, InstanceConfig, RateLimit,
    WindowShape, seed,
};
use serde::Serialize;

use crate::args::{Emulate, LimitShape};
use crate::context::Context;
use crate::failure::Failure;
use crate::signals::Signals;
use crate::{exit, file, out};

const ACCOUNT: &str = "0123456789abcdef0123456789abcdef";
/// Made up here and printed: it opens nothing but this process.
const TOKEN: &str = "emulated-cloudflare-token";
const SOURCE: (&str, &str) = ("11111111-1111-4111-8111-111111111111", "source-db");
const TARGET: (&str, &str) = ("22222222-2222-4222-8222-222222222222", "target-db");
/// Cloudflare's limit for its whole API, per token.
const D1_LIMIT: (u32, Duration) = (1200, Duration::from_secs(300));

/// The line that is printed once it listens.
#[derive(Debug, Serialize)]
struct Hello {
    clerk: String,
    d1: String,
    control: String,
    source_key: String,
    target_key: String,
    source_instance: String,
    target_instance: String,
    source_publishable_key: String,
    target_publishable_key: String,
    account_id: &'static str,
    api_token: &'static str,
    source_database: &'static str,
    target_database: &'static str,
}

/// Serves until it is interrupted.
pub(crate) async fn emulate(context: &Context, arguments: &Emulate) -> Result<u8, Failure> {
    let faults = match &arguments.faults {
        Some(path) => FaultPlan::from_json(&file::read(path)?)
            .map_err(|error| Failure::Content { path: path.clone(), source: error.into() })?,
        None => FaultPlan::default(),
    };
    let mut signals = Signals::listen()?;
    let limited = |environment| limit(arguments.rate_limit, environment);
    let mut source = InstanceConfig::development("source");
    source.settings.rate_limit = limited(Environment::Development);
    let mut target = InstanceConfig::production("target");
    target.settings.rate_limit = limited(Environment::Production);
    target.settings.user_cap = arguments.user_cap;
    let d1 = Arc::new(databases(arguments.rate_limit)?);
    let emulator = Emulator::start(EmulatorConfig {
        port: arguments.port,
        instances: vec![source, target],
        faults,
        record: arguments.record.clone(),
        d1: Some(Arc::clone(&d1)),
        ..EmulatorConfig::default()
    })
    .await
    .map_err(|error| Failure::Emulator(error.into()))?;
    let (source, target) = (side(&emulator, "source")?, side(&emulator, "target")?);
    let people = populate(&source, arguments.users, arguments.seed)?;
    let rows = arguments.rows.unwrap_or(arguments.users * 6);
    fill(&d1, SOURCE.0, &people, rows, arguments.seed)?;
    fill(&d1, TARGET.0, &[], 0, arguments.seed)?;
    let key = |instance: &Instance| instance.secret_key().to_owned();
    out::print_json_line(&Hello {
        clerk: emulator.clerk_url(),
        d1: emulator.d1_url(),
        control: format!("{}/__emulator", emulator.clerk_url()),
        source_key: key(&source),
        target_key: key(&target),
        source_instance: source.id().to_owned(),
        target_instance: target.id().to_owned(),
        source_publishable_key: source.publishable_key().to_owned(),
        target_publishable_key: target.publishable_key().to_owned(),
        account_id: ACCOUNT,
        api_token: TOKEN,
        source_database: SOURCE.1,
        target_database: TARGET.1,
    })?;
    context
        .notes
        .say(&format!("serving {} users and about {rows} rows; Ctrl-C ends it", arguments.users));
    signals.next().await;
    emulator.shutdown().await;
    Ok(exit::DONE)
}

fn limit(shape: LimitShape, environment: Environment) -> Option<RateLimit> {
    let shape = match shape {
        LimitShape::Fixed => WindowShape::Fixed,
        LimitShape::Sliding => WindowShape::Sliding,
        LimitShape::Off => return None,
    };
    Some(RateLimit { shape, ..RateLimit::documented(environment) })
}

fn databases(shape: LimitShape) -> Result<D1, Failure> {
    let spec = |(uuid, name): (&str, &str)| DatabaseSpec {
        uuid: uuid.to_owned(),
        name: name.to_owned(),
        path: None,
    };
    let d1 = D1::new(ACCOUNT, TOKEN, vec![spec(SOURCE), spec(TARGET)])
        .map_err(|error| Failure::Emulator(error.into()))?;
    Ok(match shape {
        LimitShape::Fixed | LimitShape::Sliding => d1.with_rate_limit(D1_LIMIT.0, D1_LIMIT.1),
        LimitShape::Off => d1,
    })
}

fn fill(
    d1: &D1,
    uuid: &str,
    people: &[(String, Option<String>)],
    rows: usize,
    seed: u64,
) -> Result<(), Failure> {
    d1.setup(uuid, |connection| -> Result<_, d1::Error> {
        verifieddit::fill(connection, people, rows, seed)
    })
    .map_err(|error| Failure::Emulator(error.into()))?;
    Ok(())
}

/// The instance of this label.
pub(super) fn side(emulator: &Emulator, label: &str) -> Result<Arc<Instance>, Failure> {
    let missing = || Failure::Emulator(rehome_emulator::Error::NoSuchInstance.into());
    emulator.instance(label).ok_or_else(missing)
}

/// Puts `users` varied people in, and returns their ids with their first address.
pub(super) fn populate(
    instance: &Instance,
    users: usize,
    seed: u64,
) -> Result<Vec<(String, Option<String>)>, Failure> {
    seed::users(users, seed)
        .into_iter()
        .map(|person| {
            let address = person.email_addresses.first().map(|address| address.value.clone());
            let id = instance.insert_seed(person);
            Ok((id.map_err(|error| Failure::Emulator(error.into()))?, address))
        })
        .collect()
}
