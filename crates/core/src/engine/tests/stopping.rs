//! What is still under way when a run is asked to stop.

use super::scripted::{Scripted, alone, exported};
use super::*;

/// How a run over three things ends that is interrupted after a while, and after how many requests.
/// Each takes a second, and then learns that its key is not valid any more.
async fn run(interrupted_after: Duration) -> (Result<Finish, Halt>, u32) {
    let dir = tempfile::tempdir().unwrap();
    let journal = exported(&dir, 3).await;
    let attempts: Arc<Mutex<u32>> = Arc::default();
    let counted = Arc::clone(&attempts);
    let locked_out = Scripted::new(3).applying(move |_| {
        *counted.lock().unwrap() += 1;
        async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let halt = Halt::Remote {
                remote: "target".into(),
                trouble: RemoteTrouble::Authentication,
                message: "the key was refused".into(),
                hint: String::new(),
            };
            Outcome::NotSent { reason: "401".into(), retry_after: None, halt: Some(halt) }
        }
    });
    let engine = alone(&journal, locked_out);
    let interrupt = Interrupt::default();
    let stop = async {
        tokio::time::sleep(interrupted_after).await;
        interrupt.throw();
    };
    let (end, ()) = tokio::join!(engine.run(&interrupt), stop);
    assert_eq!(standing(&journal, &THING).moving[&Stage::Exported], 3, "nothing is in doubt");
    let attempts = *attempts.lock().unwrap();
    (end, attempts)
}

#[tokio::test(start_paused = true)]
async fn a_reason_to_stop_is_told_even_after_the_interrupt_and_no_request_follows_it() {
    for interrupted_after in [Duration::from_millis(500), Duration::from_secs(60)] {
        let (end, attempts) = run(interrupted_after).await;
        let Err(halt) = end else { panic!("{end:?}") };
        assert!(halt.to_string().contains("the key was refused"), "{halt}");
        assert_eq!(attempts, 1);
    }
}
