//! Ctrl-C and SIGTERM.
//!
//! A run hears the first one as a request to finish what is under way, and the second as an order
//! to stop at once. The second is as safe as any crash: what is acknowledged is on the disk, and
//! what is in doubt is settled by the next run.

use rehome_core::engine::Interrupt;

use crate::exit;
use crate::failure::Failure;
use crate::out::Notes;

/// Hears Ctrl-C and SIGTERM.
pub(crate) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// Starts listening; from here on neither ends the process by itself.
    pub(crate) fn listen() -> Result<Self, Failure> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let hear = |kind| signal(kind).map_err(Failure::Signals);
            Ok(Self {
                interrupt: hear(SignalKind::interrupt())?,
                terminate: hear(SignalKind::terminate())?,
            })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Does `work`, unless a signal comes first; then it is dropped where it stands. For commands that
/// only look.
pub(crate) async fn unless_interrupted(
    work: impl Future<Output = Result<u8, Failure>>,
) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        result = work => result,
        () = signals.next() => Err(Failure::Interrupted { hint: None }),
    }
}

/// Throws `interrupt` at the first signal and ends the process at the second. `resume` is the
/// command that goes on.
pub(crate) async fn interrupt_at_once(
    mut signals: Signals,
    interrupt: Interrupt,
    notes: Notes,
    resume: String,
) {
    signals.next().await;
    interrupt.throw();
    notes.always("finishing what is under way; once more to stop at once");
    signals.next().await;
    notes.always(&format!("stopped at once; nothing is lost\nhint: go on with `{resume}`"));
    end(exit::INTERRUPTED);
}

#[allow(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "\"at once\" must not wait for the work that would not end"
)]
fn end(code: u8) -> ! {
    std::process::exit(i32::from(code))
}
