//! `rehome.toml` as anybody may write it: an error with a place, or a configuration that can be
//! asked everything.
#![no_main]

use std::path::Path;

use rehome_migration::config::{Config, RecordsConfig};

libfuzzer_sys::fuzz_target!(init: rehome_fuzz::prepare(), |text: &str| {
    let path = Path::new("/nowhere/rehome.toml");
    let parsed = Config::parse(path, text);
    rehome_fuzz::understood(parsed.is_ok());
    match parsed {
        Ok(config) => {
            for side in [&config.source, &config.target] {
                let share = side.clerk.rate_share.0;
                assert!(share > 0.0 && share <= 1.0, "{share}");
            }
            let _ = (config.users.policy(), config.folder(), format!("{config:?}"));
            let _ = config.records.as_ref().map(RecordsConfig::selection);
            assert!(config.journal_path().file_name().is_some());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
