//! Serves an emulator with a seeded source and an empty target until it is
//! killed, for clients in other languages and for the judges.
//!
//! `serve [--port P] [--users N] [--seed S] [--faults FILE] [--record FILE]
//! [--target-limit N]` prints one JSON line with its addresses and keys.
#![allow(clippy::print_stdout, reason = "the line is what the example is for")]
#![allow(clippy::disallowed_methods, reason = "an example is a command line of its own")]

use std::path::PathBuf;

use rehome_emulator::{
    Emulator, EmulatorConfig, FaultPlan, InstanceConfig, RateLimit, WindowShape, seed,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = EmulatorConfig::default();
    let (mut users, mut seed, mut limit) = (100, 1, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--port" => config.port = value.parse()?,
            "--users" => users = value.parse()?,
            "--seed" => seed = value.parse()?,
            "--faults" => config.faults = FaultPlan::from_json(&std::fs::read_to_string(value)?)?,
            "--record" => config.record = Some(PathBuf::from(value)),
            "--target-limit" => limit = Some(value.parse()?),
            _ => return Err(format!("unknown argument {name}").into()),
        }
    }
    let mut target = InstanceConfig::production("target");
    target.settings.rate_limit = limit.map(|limit| RateLimit {
        limit,
        window_ms: 2_000,
        shape: WindowShape::Sliding,
        count_refused: false,
    });
    let source = InstanceConfig::development("source");
    let (source_key, target_key) = (source.secret_key.clone(), target.secret_key.clone());
    config.instances = vec![source, target];
    let emulator = Emulator::start(config).await?;
    if let Some(source) = emulator.instance("source") {
        for user in seed::users(users, seed) {
            source.insert_seed(user)?;
        }
    }
    println!(
        "{}",
        serde_json::json!({
            "clerk": emulator.clerk_url(),
            "d1": emulator.d1_url(),
            "source_key": source_key,
            "target_key": target_key,
        })
    );
    std::future::pending::<()>().await;
    Ok(())
}
