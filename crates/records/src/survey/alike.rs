//! Whether a row of ours and one of the target are the same thing, though their contents differ.
//!
//! A number proves nothing: 5 is the fifth row of either database. The id of an account does prove
//! it, where it stands for the row itself (it is the key, or unique); and so does a text that is a
//! key or unique (a name of a tag, a slug, a uuid), unless the two rows name different accounts.

use crate::layout::{Form, IdAt, pick};
use crate::value::Value;

/// The id columns that stand for the row itself ([`identifies`]).
pub(super) fn identifying(form: &Form) -> impl Iterator<Item = &IdAt> {
    form.ids.iter().filter(|id| identifies(form, id))
}

/// Whether an id column stands for the row itself: it alone is the key, or unique. Where it is only a
/// part of that (a member of a group), an account may have many such rows, and the application
/// makes them.
pub(crate) fn identifies(form: &Form, id: &IdAt) -> bool {
    id.path.is_none()
        && (form.key == [id.column] || form.unique.iter().any(|set| *set == [id.column]))
}

/// Whether they are the same thing.
pub(super) fn same_thing(form: &Form, ours: &[Value], theirs: &[Value]) -> bool {
    let agree = |column: usize| match (ours.get(column), theirs.get(column)) {
        (Some(a), Some(b)) => a == b && !a.is_null(),
        (_, _) => false,
    };
    if identifying(form).any(|id| agree(id.column)) {
        return true;
    }
    let plain = form.ids.iter().filter(|id| id.path.is_none());
    let others = plain.into_iter().any(|id| ours.get(id.column) != theirs.get(id.column));
    let named = |set: &[usize]| {
        set.iter().all(|column| agree(*column))
            && pick(ours, set).iter().any(|value| match value {
                Value::Text(_) | Value::Blob(_) => true,
                Value::Null | Value::Integer(_) | Value::Real(_) => false,
            })
    };
    !others && (named(&form.key) || form.unique.iter().any(|set| named(set)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rehome_core::Kind;

    fn form(ids: &[usize], unique: &[&[usize]]) -> Form {
        let names: Vec<String> = ["id", "who", "name"].map(str::to_owned).to_vec();
        let kind = || Kind::new("user");
        let ids = ids.iter().map(|column| IdAt { column: *column, path: None, kind: kind() });
        Form {
            source: names.clone(),
            target: names.clone(),
            names,
            key: vec![0],
            ids: ids.collect(),
            unique: unique.iter().map(|set| set.to_vec()).collect(),
            ..Form::empty("t", "t")
        }
    }

    fn row(id: Value, who: &str, name: &str) -> Vec<Value> {
        vec![id, Value::text(who), Value::text(name)]
    }

    #[test]
    fn a_number_proves_nothing_and_an_account_does() {
        let one = || Value::Integer(1);
        let accounts = form(&[1], &[&[1]]);
        assert!(same_thing(&accounts, &row(one(), "a", "x"), &row(one(), "a", "y")));
        assert!(!same_thing(&accounts, &row(one(), "a", "x"), &row(one(), "b", "x")));
        // Whose a post is does not tell which post it is.
        let posts = form(&[1], &[]);
        assert!(!same_thing(&posts, &row(one(), "a", "x"), &row(one(), "a", "y")));
    }

    #[test]
    fn a_unique_text_does_unless_the_rows_name_different_accounts() {
        let (one, two) = (|| Value::Integer(1), || Value::Integer(2));
        let tags = form(&[], &[&[2]]);
        assert!(same_thing(&tags, &row(one(), "a", "rust"), &row(two(), "b", "rust")));
        assert!(!same_thing(&tags, &row(one(), "a", "rust"), &row(one(), "a", "sql")));
        let profiles = form(&[1], &[&[2]]);
        assert!(!same_thing(&profiles, &row(one(), "a", "ann"), &row(two(), "b", "ann")));
        assert!(same_thing(&profiles, &row(one(), "a", "ann"), &row(two(), "a", "ann")));
        let keyed = form(&[], &[]);
        let slug = || Value::text("about");
        assert!(same_thing(&keyed, &row(slug(), "a", "x"), &row(slug(), "a", "y")));
    }
}
