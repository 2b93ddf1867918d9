//! A wrangler file in any of its forms, as `init --from-wrangler` reads it.
#![no_main]
#![allow(dead_code, unreachable_pub)]

#[path = "../../../crates/cli/src/commands/wrangler.rs"]
mod wrangler;

/// The file that stands where the program would read one.
mod file {
    use std::cell::RefCell;
    use std::path::Path;

    use crate::failure::Failure;

    thread_local! {
        pub(super) static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
    }

    pub(super) fn read(_: &Path) -> Result<String, Failure> {
        Ok(TEXT.with_borrow(Clone::clone))
    }
}

/// How the program says that a file is not what it should be.
mod failure {
    use std::path::PathBuf;

    #[derive(Debug)]
    pub(super) enum Failure {
        Content { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    }
}

libfuzzer_sys::fuzz_target!(init: rehome_fuzz::prepare(), |text: &str| {
    file::TEXT.with_borrow_mut(|held| text.clone_into(held));
    let mut databases = 0;
    for name in ["wrangler.toml", "wrangler.jsonc"] {
        if let Ok(found) = wrangler::read(std::path::Path::new(name)) {
            databases += found.databases.len();
            let (source, target) = found.sides();
            for side in [source, target].into_iter().flatten() {
                assert!(found.databases.iter().any(|name| name == side));
            }
        }
    }
    rehome_fuzz::understood(databases > 0);
});
