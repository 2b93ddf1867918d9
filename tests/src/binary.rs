//! The binary: built once, run, watched, killed.

use std::path::{Path, PathBuf};
use std::process::{Command as Blocking, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// How long a command of an everyday suite may take before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(if cfg!(feature = "slow") { 1_800 } else { 240 });

/// The binary's path, built in the profile of the running test; or the one that `REHOME_BIN` names,
/// to put a released one on trial.
///
/// # Panics
/// When it does not build.
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        std::env::var_os("REHOME_BIN").map_or_else(|| build("rehome", &[]), Into::into)
    })
}

/// The path of the binary that can be told to die at a boundary. It stands beside the ordinary one,
/// under a name of its own.
///
/// # Panics
/// When it does not build.
pub fn mortal() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| build("rehome-crash", &["--features", "rehome-cli/crash-points"]))
}

fn build(bin: &str, more: &[&str]) -> PathBuf {
    // target/PROFILE/deps/SUITE-HASH
    let test = std::env::current_exe().expect("the test knows its own path");
    let profile = test.ancestors().nth(2).expect("tests live in target/PROFILE/deps");
    let name = profile.file_name().and_then(|name| name.to_str()).unwrap_or("debug");
    let target = profile.parent().expect("a profile lives in the target folder");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Blocking::new(cargo)
        // With a test named, cargo takes dependencies as `cargo test --workspace` has built them.
        .args(["build", "--quiet", "--workspace", "--bin", bin, "--test", "outside"])
        .args(more)
        .args(["--profile", if name == "debug" { "dev" } else { name }])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo can be run");
    assert!(status.success(), "the binary does not build");
    profile.join(format!("{bin}{}", std::env::consts::EXE_SUFFIX))
}

/// What a command left behind.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended; a killed one has no code.
    pub status: ExitStatus,
    /// Everything on standard output.
    pub stdout: String,
    /// Everything on standard error.
    pub stderr: String,
}

impl Finished {
    /// The exit code; `None` for a killed process.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The same, when it ended with `code`.
    ///
    /// # Panics
    /// When it did not, with both streams.
    #[must_use]
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code(),
            Some(code),
            "--- stderr\n{}\n--- the end of stdout\n{}",
            self.stderr,
            tail(&self.stdout, 20),
        );
        self
    }

    /// Standard output as one JSON document.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }

    /// Standard output as JSON Lines.
    ///
    /// # Panics
    /// When a line is no JSON.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        let event = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        };
        self.stdout.lines().map(event).collect()
    }

    /// Both streams, for a look at what must not be there.
    pub fn everything(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A running command. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
    peak: u64,
}

impl Running {
    /// Starts `command`, with both streams captured.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().expect("the binary can be run");
        // Drained from the start: a full pipe would stop the process that is being tested.
        let stdout = tokio::spawn(drain(child.stdout.take()));
        let stderr = tokio::spawn(drain(child.stderr.take()));
        Self { child, stdout, stderr, peak: 0 }
    }

    /// The process id; `None` once it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it takes too long.
    pub async fn finish(mut self) -> Finished {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = match ended {
            Ok(status) => status.expect("the process can be waited for"),
            Err(_) => {
                self.child.kill().await.expect("the process can be killed");
                let left = self.collect().await;
                panic!("not done within {PATIENCE:?}\n{}\n{}", left.1, tail(&left.0, 20));
            }
        };
        let (stdout, stderr) = self.collect().await;
        Finished { status, stdout, stderr }
    }

    async fn collect(self) -> (String, String) {
        (self.stdout.await.expect("a reader ends"), self.stderr.await.expect("a reader ends"))
    }

    /// Kills it with SIGKILL, now. One that has ended already is left as it is.
    pub async fn kill(mut self) -> Finished {
        let _ended_already = self.child.start_kill().is_err();
        self.finish().await
    }

    /// Waits until `moment` has come. `false` when the process ended before.
    ///
    /// # Panics
    /// When neither happens in time.
    pub async fn reaches(&mut self, moment: impl Fn() -> bool) -> bool {
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        let watch = async {
            loop {
                if moment() {
                    return true;
                }
                tokio::select! {
                    _ = self.child.wait() => return moment(),
                    _ = tick.tick() => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, watch).await.expect("the moment comes, or the end")
    }

    /// Waits for its end, and says how much memory it had at most, in bytes (`VmHWM`, which Linux
    /// keeps for every process; the last few milliseconds may be missing).
    ///
    /// # Panics
    /// When it takes too long.
    pub async fn finish_measured(mut self) -> (Finished, u64) {
        let status = format!("/proc/{}/status", self.pid().expect("it has just been started"));
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            if let Some(peak) =
                std::fs::read_to_string(&status).ok().as_deref().and_then(high_water)
            {
                self.peak = self.peak.max(peak);
            }
            tokio::select! {
                _ = self.child.wait() => break,
                _ = tick.tick() => {}
            }
        }
        let peak = self.peak;
        (self.finish().await, peak)
    }
}

fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

async fn drain(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        // What a killed process managed to say is enough.
        let _read = stream.read_to_end(&mut bytes).await.is_ok();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
