//! What is done to the journal, made up from where the model stands: mostly what may happen,
//! sometimes what may not, with few names, so that they meet.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::model::{Model, leads};
use crate::journal::{Called, Change, Detail};
use crate::state::{Event, Stage};
use crate::transition::Exported;
use crate::unit::{Block, Failure, Kind, Origin, UnitId, Wait};

/// The kinds of units.
pub(super) const KINDS: [Kind; 2] = [Kind::new("user"), Kind::new("span")];
/// Their groups.
pub(super) const SCOPES: [&str; 2] = ["notes", "posts"];
/// Their source keys.
pub(super) const KEYS: [&str; 6] = ["k1", "k2", "k3", "k4", "k5", "k6"];
/// Their names besides.
pub(super) const ALIASES: [&str; 2] = ["email:a@example.com", "email:b@example.com"];
/// Their counterparts in the target.
pub(super) const TARGETS: [&str; 4] = ["t1", "t2", "t3", "t4"];
/// Words of notes.
pub(super) const NOTES: [&str; 2] = ["run_started", "run_ended"];

/// One thing that is done.
#[derive(Clone, Debug)]
pub(super) enum Move {
    /// These are handed over together. Each list is recorded whole or not at all; one that is
    /// refused does not keep the others out.
    Submit(Vec<Vec<Change>>),
    /// Everything that may move again is released.
    Release,
    /// The journal is closed and opened again.
    Reopen,
    /// A list is handed over; its caller leaves before the answer, and the journal is dropped.
    Abandon(Vec<Change>),
    /// The process is killed.
    Kill,
}

/// What may be done next.
pub(super) fn next(model: &Model) -> BoxedStrategy<Move> {
    let pages = if model.rows.len() < 4 { 40 } else { 1 };
    prop_oneof![
        pages => page().prop_map(|page| Move::Submit(vec![vec![page]])),
        16 => changes(model, 1).prop_map(|list| Move::Submit(vec![list])),
        6 => changes(model, 2).prop_map(|list| Move::Submit(vec![list])),
        2 => changes(model, 3).prop_map(|list| Move::Submit(vec![list])),
        3 => changes(model, 4)
            .prop_map(|list| Move::Submit(list.chunks(2).map(<[_]>::to_vec).collect())),
        2 => Just(Move::Release),
        1 => changes(model, 2).prop_map(Move::Abandon),
        1 => Just(Move::Reopen),
        1 => Just(Move::Kill),
    ]
    .boxed()
}

/// So many changes, each made up for where the ones before it lead.
fn changes(model: &Model, count: usize) -> BoxedStrategy<Vec<Change>> {
    if count == 1 {
        return change(model).prop_map(|only| vec![only]).boxed();
    }
    let here = model.clone();
    change(model)
        .prop_flat_map(move |first| {
            let mut there = here.clone();
            there.submit(std::slice::from_ref(&first)).ok();
            changes(&there, count - 1).prop_map(move |rest| [vec![first.clone()], rest].concat())
        })
        .boxed()
}

fn change(model: &Model) -> BoxedStrategy<Change> {
    let note = (select(&NOTES[..]), 0..100_u64)
        .prop_map(|(event, number)| Change::Note { event, detail: json!({ "number": number }) });
    prop_oneof![16 => step(model), 1 => page(), 1 => note].boxed()
}

fn page() -> impl Strategy<Value = Change> {
    let units = vec(exported(), 0..4);
    (select(KINDS.to_vec()), units, 0..100_u64, any::<bool>(), option::of(0..9_u64)).prop_map(
        |(kind, units, cursor, done, total)| Change::Page {
            kind,
            units,
            cursor: json!({ "after": cursor }),
            done,
            total,
        },
    )
}

fn exported() -> impl Strategy<Value = Exported> {
    let aliases = vec(select(&ALIASES[..]), 0..3);
    (select(&KEYS[..]), select(&SCOPES[..]), aliases, 0..100_u64).prop_map(
        |(key, scope, aliases, number)| Exported {
            source_key: key.into(),
            scope: scope.into(),
            label: number.is_multiple_of(2).then(|| format!("number {number}")),
            aliases: aliases.into_iter().map(str::to_owned).collect(),
            data: json!({ "number": number }),
        },
    )
}

/// Mostly what may happen to some unit; also anything, to any unit, even to one that is not there.
fn step(model: &Model) -> BoxedStrategy<Change> {
    let all = Event::all();
    let last = model.rows.len() as i64 + 1;
    let anything = (1..=last).prop_map(UnitId).prop_flat_map({
        let all = all.clone();
        move |unit| select(all.clone()).prop_map(move |event| (unit, event))
    });
    let allowed: Vec<_> = model
        .units()
        .flat_map(|(unit, row)| {
            let may = |event: &Event| leads(row.stage, row.condition, *event).is_some();
            let often = |event: Event| std::iter::repeat_n((unit, event), how_often(event));
            all.iter().copied().filter(may).flat_map(often).collect::<Vec<_>>()
        })
        .collect();
    let chosen = if allowed.is_empty() {
        anything.boxed()
    } else {
        prop_oneof![7 => select(allowed), 1 => anything].boxed()
    };
    (chosen, saying())
        .prop_map(|((unit, event), said)| Change::Step { unit, event, detail: said.at(event) })
        .boxed()
}

/// Effects need two steps, so chance alone would seldom bring one about.
fn how_often(event: Event) -> usize {
    match event.as_str() {
        "intended" | "done" | "partly" | "undone" | "differed" => 6,
        _ => 1,
    }
}

/// Everything that a step may say; what of it fits is taken.
#[derive(Clone, Debug)]
struct Saying {
    number: u64,
    speaks: bool,
    remains: bool,
    target: Option<&'static str>,
    created: bool,
    waits: Vec<Wait>,
    blocks: Vec<Block>,
}

fn saying() -> impl Strategy<Value = Saying> {
    (
        0..1000_u64,
        proptest::bool::weighted(0.85),
        proptest::bool::weighted(0.4),
        option::of(select(&TARGETS[..])),
        any::<bool>(),
        vec(wait(), 0..3),
        vec(block(), 0..2),
    )
        .prop_map(|(number, speaks, remains, target, created, waits, blocks)| Saying {
            number,
            speaks,
            remains,
            target,
            created,
            waits,
            blocks,
        })
}

fn wait() -> impl Strategy<Value = Wait> {
    let whom = (
        select(KINDS.to_vec()),
        option::of(select(&KEYS[..])),
        option::of(select(&SCOPES[..])),
        select(&Stage::ALL[..]),
    );
    (whom, 1..9_u64).prop_map(|((kind, key, scope, stage), parts)| Wait {
        code: format!("waits_{parts}"),
        kind,
        key: key.map(str::to_owned),
        scope: scope.map(str::to_owned),
        stage,
        parts,
        example: key.map(|key| format!("row of {key}")),
    })
}

fn block() -> impl Strategy<Value = Block> {
    (select(KINDS.to_vec()), select(&KEYS[..]))
        .prop_map(|(kind, key)| Block { kind, key: key.into() })
}

impl Saying {
    fn at(self, event: Event) -> Detail {
        let Self { number, speaks, remains, target, created, waits, blocks } = self;
        let data = |said: bool| said.then(|| json!({ "said": number }));
        let failure = Some(Failure::new(format!("code_{number}"), "it went wrong"));
        let nothing = Detail::default();
        match event {
            Event::Intended | Event::UndoIntended => Detail { data: data(speaks), ..nothing },
            Event::Advanced(_) | Event::Done(_) | Event::Partly => Detail {
                target: target.map(str::to_owned),
                origin: target.map(|_| if created { Origin::Created } else { Origin::Adopted }),
                data: data(speaks),
                ..nothing
            },
            Event::Undone(_) | Event::Reverted(_) => Detail { data: data(remains), ..nothing },
            Event::Failed => Detail { failure, blocks, ..nothing },
            Event::Rejected | Event::Stuck | Event::Skipped => Detail { failure, ..nothing },
            Event::Held => Detail { waits, blocks, ..nothing },
            Event::Reopened(_) => Detail {
                reason: speaks.then(|| "the source moved on".to_owned()),
                called: remains.then(|| Called {
                    label: speaks.then(|| format!("now number {number}")),
                    aliases: ALIASES.iter().take(number as usize % 3).map(|&a| a.into()).collect(),
                    gone: ALIASES.iter().skip(number as usize % 3).map(|&a| a.into()).collect(),
                }),
                data: data(remains),
                ..nothing
            },
            Event::Exported
            | Event::NotSent
            | Event::Unknown
            | Event::Absent
            | Event::Doubted
            | Event::Released
            | Event::Retried
            | Event::Differed => Detail { reason: speaks.then(|| "seen".to_owned()), ..nothing },
        }
    }
}
