//! The binary. All of it is in the library beside it, so that the suites can have another binary
//! with crash points around the same program (`rehome-crash.rs`).

use std::process::ExitCode;

fn main() -> ExitCode {
    rehome_cli::main()
}
