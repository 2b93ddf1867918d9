//! What the audit of users asks the journal, beyond [`rehome_core::Knowledge`].

use std::collections::HashMap;
use std::sync::Arc;

use rehome_clerk::audit::{Memory, Remembered};
use rehome_core::Known;
use rehome_core::journal::{self, Reader};

/// The journal as [`Memory`].
pub(crate) struct JournalMemory(pub(crate) Arc<Reader>);

impl Memory for JournalMemory {
    fn remembered(&self, users: &[Known]) -> Result<HashMap<String, Remembered>, journal::Error> {
        let ids: Vec<_> = users.iter().map(|known| known.id).collect();
        let keys: HashMap<_, _> =
            users.iter().map(|known| (known.id, known.source_key.clone())).collect();
        let rows = self.0.remembered(&ids)?;
        Ok(rows
            .into_iter()
            .filter_map(|(id, data, done)| {
                let key = keys.get(&id)?.clone();
                Some((key, Remembered::from_json(&data, done.as_ref())))
            })
            .collect())
    }
}
