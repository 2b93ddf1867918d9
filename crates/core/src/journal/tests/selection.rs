//! A run may be narrowed to some units of one kind. Workers see those alone as ready, and are told
//! of the others that they are not selected; other kinds are never limited.

use super::*;

const SPAN: Kind = Kind::new("span");

/// Users a to d, of whom b has a counterpart, and two spans.
async fn journal(place: &Place) -> Journal {
    let journal = open(place);
    journal.submit(vec![page(&["a", "b", "c", "d"])]).await.unwrap();
    let Change::Page { units, cursor, done, total, .. } = page(&["x", "y"]) else {
        panic!("it is a page")
    };
    let spans = Change::Page { kind: SPAN, units, cursor, done, total };
    journal.submit(vec![spans, advance(2, Stage::Created, "tb")]).await.unwrap();
    journal
}

fn only(names: &[&str]) -> Selection {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Selection::Only { kind: USER, names }
}

const fn first(count: u64) -> Selection {
    Selection::First { kind: USER, count }
}

#[tokio::test]
async fn what_is_selected_is_the_same_for_queues_and_for_workers() {
    let place = place();
    let journal = journal(&place).await;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for (selection, selected) in [
        (Selection::All, vec![1, 2, 3, 4]),
        (first(0), vec![]),
        (first(2), vec![1, 2]),
        (first(4), vec![1, 2, 3, 4]),
        (first(9), vec![1, 2, 3, 4]),
        // By source key, by target key, by alias; and a name that nobody has.
        (only(&["a", "tb", "email:d@example.com", "nobody"]), vec![1, 2, 4]),
        (only(&[]), vec![]),
    ] {
        let reader = journal.reader().unwrap().select(selection.clone());
        let ready = |kind: &Kind, stage| reader.ready_ids(kind, stage, UnitId(0), 9).unwrap();
        let mut queued = [ready(&USER, Stage::Exported), ready(&USER, Stage::Created)].concat();
        queued.sort_unstable();
        let selected: Vec<_> = selected.into_iter().map(UnitId).collect();
        assert_eq!(queued, selected, "{selection:?}");
        assert_eq!(ready(&SPAN, Stage::Exported), [UnitId(5), UnitId(6)], "{selection:?}");

        let known = reader.known_after(&USER, UnitId(0), 9).unwrap();
        assert_eq!(known.iter().map(|one| one.id).collect::<Vec<_>>(), selected);
        let asked = [
            reader.by_source(&USER, &names(&["a", "b", "c", "d"])).unwrap().into_values().collect(),
            reader.between(&USER, UnitId(0), UnitId(9), 9).unwrap(),
        ];
        for known in asked {
            assert_eq!(known.len(), 4, "of the others something is known as well");
            for one in known {
                assert_eq!(one.selected, selected.contains(&one.id), "{selection:?}: {one:?}");
            }
        }
        let spans = reader.by_source(&SPAN, &names(&["x", "y"])).unwrap();
        assert!(spans.values().all(|span| span.selected), "{selection:?}");
        assert_eq!(spans.len(), 2);
    }
}
