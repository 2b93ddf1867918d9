//! How a run is asked to stop.

use tokio::sync::watch;

/// A switch that can be thrown once, from anywhere.
#[derive(Clone, Debug)]
pub struct Interrupt {
    thrown: watch::Sender<bool>,
}

impl Default for Interrupt {
    fn default() -> Self {
        Self { thrown: watch::Sender::new(false) }
    }
}

impl Interrupt {
    /// Asks the run to take no more work, let what is under way end, and return.
    pub fn throw(&self) {
        self.thrown.send_replace(true);
    }

    /// Whether it was thrown.
    pub fn is_thrown(&self) -> bool {
        *self.thrown.borrow()
    }

    /// Waits until it is thrown.
    pub async fn thrown(&self) {
        let mut switch = self.thrown.subscribe();
        // The sender lives in `self`, so waiting can only end with the switch thrown.
        if switch.wait_for(|thrown| *thrown).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
