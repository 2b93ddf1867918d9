//! Who the source is, on the way back.
//!
//! A rollback asks the source's Clerk nothing but its name, so that nobody takes back another
//! migration by mistake. The journal knows that name too. Where the source does not answer, or there
//! is no key to it any more, the rollback goes on with what the journal is bound to, and says so: it
//! may be needed just because the source is gone. A source that answers is believed before the
//! journal, and another one is refused.

use std::sync::Arc;
use std::time::Duration;

use rehome_clerk::Reader;
use rehome_core::Halt;
use rehome_core::backoff::Backoff;
use rehome_core::clock::Clock;
use rehome_core::journal::Setup;
use rehome_core::progress::{Progress, Watcher};
use secrecy::SecretString;

use crate::config::Config;
use crate::connect::{self, Instance, Keys, Remotes, SOURCE_CLERK, SOURCE_PIN};
use crate::error::Error;
use crate::wiring::End;

/// How long a source is waited for that does not answer: a few seconds in all.
const PATIENCE: Backoff =
    Backoff { first: Duration::from_millis(250), cap: Duration::from_secs(2), attempts: 4 };

/// Connects everything for a rollback under a journal that is bound to `bound`.
pub(super) async fn connect(
    config: &Config,
    keys: &Keys,
    bound: &Setup,
    watcher: &Watcher,
    clock: &Arc<dyn Clock>,
) -> Result<Remotes, Error> {
    let source = source(config, keys, bound, watcher, clock).await?;
    let target = connect::target_instance(config, keys, clock).await?;
    let databases = connect::both_databases(config, keys).await?;
    Ok(Remotes { source, target, databases })
}

async fn source(
    config: &Config,
    keys: &Keys,
    bound: &Setup,
    watcher: &Watcher,
    clock: &Arc<dyn Clock>,
) -> Result<Instance, Error> {
    let none = SecretString::default();
    let key = keys.source_clerk.as_ref().unwrap_or(&none);
    let (transport, rate) = connect::transport(config, End::Source, key, clock)?;
    let asked = match &keys.source_clerk {
        None => Err(Error::Key { role: SOURCE_CLERK, message: "no key was given".to_owned() }),
        Some(_) => {
            let reader = Reader::with_backoff(Arc::clone(&transport), PATIENCE);
            reader.instance().await.map_err(Error::from)
        }
    };
    let reader = Reader::new(Arc::clone(&transport));
    let error = match asked {
        Ok(found) => {
            let (id, environment) = (found.id, found.environment_type);
            return Ok(Instance { reader, transport, rate, id, environment });
        }
        Err(error) => error,
    };
    let Some(id) = bound.pins.get(SOURCE_PIN).filter(|_| is_gone(&error)) else {
        return Err(error);
    };
    let message = format!(
        "{error}; the rollback needs nothing of it, and takes it for {id}, to which the journal is \
         bound"
    );
    watcher.note(&Progress::Warned { message });
    let environment = String::new();
    Ok(Instance { reader, transport, rate, id: id.clone(), environment })
}

/// Whether the source has not said who it is, so that the journal may.
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Key { .. } | Error::Halt(Halt::Remote { .. }))
}
