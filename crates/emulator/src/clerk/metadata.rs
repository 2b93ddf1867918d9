//! `PATCH` and `PUT /users/{user_id}/metadata`.

use serde_json::Value;

use super::form::Form;
use super::{Answer, users, validate};
use crate::instance::Instance;
use crate::refusal::Refusal;
use crate::user::Metadata;

const FIELDS: [&str; 3] = ["public_metadata", "private_metadata", "unsafe_metadata"];

/// The two operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// `UpdateUserMetadata`: merged deeply; a null takes a key away.
    Merge,
    /// `ReplaceUserMetadata`: what is given replaces the whole field.
    Replace,
}

pub(crate) fn change(instance: &Instance, id: &str, form: &Form, way: Way) -> Answer {
    form.only(|name| FIELDS.contains(&name))?;
    let [public, private, unsafe_] = FIELDS.map(|name| form.object(name));
    let (public, private, unsafe_) = (public?, private?, unsafe_?);
    if instance.user(id).is_none() {
        return Err(Refusal::user_not_found(id));
    }
    instance.admit_change(id)?;
    users::change(instance, id, |user| {
        apply(&mut user.public_metadata, public, way);
        apply(&mut user.private_metadata, private, way);
        apply(&mut user.unsafe_metadata, unsafe_, way);
        let name = FIELDS.into_iter().find(|name| form.has(name)).unwrap_or(FIELDS[0]);
        validate::metadata_size(
            name,
            [&user.public_metadata, &user.private_metadata, &user.unsafe_metadata],
        )
    })
}

fn apply(old: &mut Metadata, new: Option<Metadata>, way: Way) {
    match (new, way) {
        (None, Way::Merge | Way::Replace) => {}
        (Some(new), Way::Merge) => merge(old, new),
        (Some(new), Way::Replace) => *old = new,
    }
}

fn merge(old: &mut Metadata, new: Metadata) {
    for (key, value) in new {
        match value {
            Value::Null => {
                old.remove(&key);
            }
            Value::Object(new) => {
                let slot = old.entry(key).or_insert_with(|| Value::Object(Metadata::new()));
                if let Value::Object(old) = slot {
                    merge(old, new);
                } else {
                    let mut fresh = Metadata::new();
                    merge(&mut fresh, new);
                    *slot = Value::Object(fresh);
                }
            }
            other @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                old.insert(key, other);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merging_goes_deep_and_null_removes() {
        let Value::Object(mut old) = json!({"a": {"b": 1, "c": 2}, "d": [1], "e": 5}) else {
            unreachable!()
        };
        let Value::Object(new) =
            json!({"a": {"b": null, "x": {"y": null}}, "d": [2], "e": {"f": 1}})
        else {
            unreachable!()
        };
        merge(&mut old, new);
        assert_eq!(Value::Object(old), json!({"a": {"c": 2, "x": {}}, "d": [2], "e": {"f": 1}}));
    }
}
