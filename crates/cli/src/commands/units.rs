//! Single units: `show`, `failures`, `retry`, `skip`.

use std::sync::Arc;

use rehome_migration::ledger::{self, Which};
use serde_json::json;

use crate::args::{Failures, Retry, Show, Skip};
use crate::context::Context;
use crate::failure::Failure;
use crate::out::Data;
use crate::render::failures::Groups;
use crate::render::{amount, human};
use crate::{exit, out};

/// `rehome show`. With `--json` one document a line: nearly always one.
pub(crate) fn show(context: &Context, arguments: &Show) -> Result<u8, Failure> {
    let units = ledger::show(&context.config()?, &arguments.key)?;
    let mut data = Data::open();
    for (place, unit) in units.iter().enumerate() {
        if context.json {
            data.json_line(unit)?;
        } else {
            if place > 0 {
                data.text("\n")?;
            }
            data.line(&human::unit(unit, context.style))?;
        }
    }
    data.end()?;
    Ok(exit::DONE)
}

/// `rehome failures`.
pub(crate) fn failures(context: &Context, arguments: &Failures) -> Result<u8, Failure> {
    let (config, code) = (context.config()?, arguments.code.as_deref());
    if !context.json {
        let mut groups = Groups::default();
        ledger::failures(&config, code, &mut |failure| groups.add(failure))?;
        out::print(&groups.page(context.style))?;
        return Ok(exit::DONE);
    }
    let mut array = out::Array::new(Data::open());
    ledger::failures(&config, code, &mut |failure| array.add(&failure))?;
    array.close()?.end()?;
    Ok(exit::DONE)
}

/// `rehome retry`.
pub(crate) async fn retry(context: &Context, arguments: Retry) -> Result<u8, Failure> {
    let config = context.config()?;
    let which = match (arguments.code, arguments.keys) {
        (Some(code), _) => Which::Code(code),
        (None, keys) if keys.is_empty() => Which::All,
        (None, keys) => Which::Keys(keys),
    };
    let units = ledger::retry(&config, &which, Arc::clone(&context.clock)).await?;
    tell(context, "retried", units, "put back; the next run takes them up")
}

/// `rehome skip`.
pub(crate) async fn skip(context: &Context, arguments: &Skip) -> Result<u8, Failure> {
    let config = context.config()?;
    let Skip { keys, reason } = arguments;
    let units = ledger::skip(&config, keys, reason, Arc::clone(&context.clock)).await?;
    tell(context, "skipped", units, "taken out; `rehome retry KEY` takes them in again")
}

fn tell(context: &Context, word: &str, units: u64, what: &str) -> Result<u8, Failure> {
    if context.json {
        out::print_json(&json!({ word: units }))?;
    } else {
        out::print(&format!("{} {what}", amount::of(units, "unit")))?;
    }
    Ok(exit::DONE)
}
