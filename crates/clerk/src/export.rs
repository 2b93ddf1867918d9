//! The export: every user of the source as a unit, with all that the target can be given.
//!
//! How the list is walked without missing anybody stands in `walk`; here a user becomes what
//! the journal keeps. See [`Profile`] for the form.
//!
//! An export that is done can be gone on with: the cursor of its last page leads to the users who
//! signed up since, and to the same cursor again when nobody did.

use futures::future::BoxFuture;
use rehome_core::{Exported, Halt, Kind, Page, Source, Unit};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::USER;
use crate::api::User;
use crate::profile::{Profile, Unreadable};
use crate::reader::{LARGEST_PAGE, Reader};
use crate::walk::{Position, Stepped, Walk};

/// Finds the users of an instance.
#[derive(Clone, Debug)]
pub struct UserSource {
    walk: Walk,
}

impl UserSource {
    /// The users that `reader` sees, by the largest page that the API allows.
    pub fn new(reader: Reader) -> Self {
        Self { walk: Walk::new(reader, LARGEST_PAGE) }
    }

    /// The same with pages of `page` users (2 to [`LARGEST_PAGE`]).
    #[must_use]
    pub fn with_page(mut self, page: usize) -> Self {
        self.walk = self.walk.with_page(page);
        self
    }

    async fn page(&self, cursor: Option<Value>) -> Result<Page, Halt> {
        let (position, total) = match cursor {
            Some(cursor) => {
                let position = Position::deserialize(cursor).map_err(|error| {
                    Halt::Bug(format!("the position of the user export is not one: {error}"))
                })?;
                (position, None)
            }
            None => (Position::START, Some(self.walk.reader().count().await?)),
        };
        let Stepped { users, next, done } = self.walk.step(position).await?;
        Ok(Page { units: users.iter().map(exported).collect(), cursor: json!(next), done, total })
    }
}

impl Source for UserSource {
    fn kind(&self) -> Kind {
        USER
    }

    fn goes_on(&self) -> bool {
        true
    }

    fn next_page<'a>(&'a self, cursor: Option<Value>) -> BoxFuture<'a, Result<Page, Halt>> {
        Box::pin(self.page(cursor))
    }
}

/// What the journal keeps of an exported user, in [`Unit::data`].
#[derive(Clone, PartialEq, Debug)]
pub struct Journaled {
    /// Everything that can be carried.
    pub profile: Profile,
    /// When the source last changed the user, as of the export; Unix milliseconds.
    pub updated_at: Option<i64>,
    /// What the account was last brought up to date with, when the source has changed the user
    /// since.
    pub base: Option<Profile>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    profile: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    updated_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<Value>,
}

impl Journaled {
    /// Reads a unit's data.
    ///
    /// # Errors
    /// When it is not what an export wrote.
    pub fn of(unit: &Unit) -> Result<Self, Unreadable> {
        Self::from_json(&unit.data)
    }

    /// Reads the data of a unit of kind [`USER`].
    ///
    /// # Errors
    /// When it is not what an export wrote.
    pub fn from_json(data: &Value) -> Result<Self, Unreadable> {
        let stored = Stored::deserialize(data).map_err(Unreadable::Shape)?;
        let base = stored.base.as_ref().map(Profile::from_json).transpose()?;
        let profile = Profile::from_json(&stored.profile)?;
        Ok(Self { profile, updated_at: stored.updated_at, base })
    }
}

/// A user as the export hands it to the journal.
pub fn exported(user: &User) -> Exported {
    let profile = Profile::of(user);
    let stored = Stored { profile: profile.to_json(), updated_at: user.updated_at, base: None };
    Exported {
        source_key: user.id.clone(),
        scope: String::new(),
        label: Some(profile.label().unwrap_or(&user.id).to_owned()),
        aliases: profile.aliases(),
        data: json!(stored),
    }
}

/// A user who has changed since, as the journal is to keep it: `now` is the user as an export would
/// hand it over, `data` what the journal has, of a user whose account is up to date with it.
/// Returned with the names that the user has no more.
///
/// # Errors
/// When `data` is not what an export wrote.
pub fn renewed(data: &Value, mut now: Exported) -> Result<(Exported, Vec<String>), Unreadable> {
    let Journaled { profile, .. } = Journaled::from_json(data)?;
    let gone = profile.aliases().into_iter().filter(|name| !now.aliases.contains(name)).collect();
    if let Some(object) = now.data.as_object_mut() {
        object.insert("base".to_owned(), profile.to_json());
    }
    Ok((now, gone))
}
