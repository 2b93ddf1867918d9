//! Back through the real engine and the real journal, from where a [`Yard`] stands.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use rehome_core::engine::{Engine, Settings};
use rehome_core::journal::{Change, Journal, Reader, Selection as Chosen};
use rehome_core::progress::Unwatched;
use rehome_core::{Condition, Event, Failure, Knowledge, Stage, Transition, Unit, UnitId};
use rehome_records::import::ImportSpans;
use rehome_records::policy::Unmapped;
use rehome_records::span::SPAN;
use rehome_records::undo::{
    DetachSpans, Draft, PlanOptions, Refused, RowPlan, RowStep, SettleUndos, TableCounts,
    UndoSpans, Undoable, stages,
};
use rehome_records::{ReadDatabase, WriteDatabase};

use super::USER;
use super::yard::{Yard, run};

/// How to go back.
#[derive(Clone, Default)]
pub(crate) struct Back {
    /// Only what names these users (source keys).
    pub(crate) only: Option<Vec<String>>,
    pub(crate) force: bool,
    /// The users' accounts go as well.
    pub(crate) accounts: bool,
    /// Accounts that are gone already (target ids).
    pub(crate) gone: Vec<String>,
    /// As with a journal that does not say what was written.
    pub(crate) blind: bool,
}

/// A journal of the first version.
struct Blind(Reader);

impl Undoable for Blind {
    fn undoable(
        &self,
        table: &str,
        after: UnitId,
        limit: usize,
    ) -> Result<Vec<Unit>, rehome_core::journal::Error> {
        let mut units = Undoable::undoable(&self.0, table, after, limit)?;
        for unit in &mut units {
            if let Some(data) = unit.effect.as_mut().and_then(|effect| effect.data.as_mut()) {
                assert!(data.as_object_mut().unwrap().remove("digests").is_some());
            }
        }
        Ok(units)
    }
}

/// What a plan said.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) counts: BTreeMap<String, TableCounts>,
    pub(crate) refused: Vec<Refused>,
    /// Accounts that rows keep, and which rows.
    pub(crate) accounts: Vec<String>,
}

impl Said {
    /// The codes of what is refused, with table and key.
    pub(crate) fn codes(&self) -> Vec<String> {
        let mut all: Vec<_> = self
            .refused
            .iter()
            .map(|one| format!("{} {} {}", one.table, one.key, one.code))
            .collect();
        all.sort();
        all
    }
}

impl Yard {
    /// Back as far as it goes, and what the plan said before.
    pub(crate) fn back(&mut self, back: &Back) -> Option<Said> {
        let back = back.clone();
        self.live_through(async |yard, source, target| yard.back_once(source, target, &back).await)
    }

    async fn back_once(
        &self,
        source: Arc<dyn ReadDatabase>,
        target: Arc<dyn WriteDatabase>,
        back: &Back,
    ) -> Said {
        let layout = self.layout(source.as_ref(), target.as_ref()).await;
        let journal = self.journal();
        let settings = |only_doubts| Settings { only_doubts, ..Settings::default() };
        let knowledge = Arc::new(journal.reader().unwrap()) as Arc<dyn Knowledge>;
        let import = ImportSpans::new(
            source,
            Arc::clone(&target),
            knowledge,
            Arc::clone(&layout),
            Unmapped::Hold,
            2,
        );
        let undone = SettleUndos::new(Arc::clone(&target) as _, Arc::clone(&layout));
        let engine = Engine::new(Arc::clone(&journal), Arc::new(Unwatched), settings(true));
        run(engine.transition(Arc::new(import)).transition(Arc::new(undone))).await;
        self.retry_stuck(&journal).await;

        let mut reader = journal.reader().unwrap();
        if let Some(names) = &back.only {
            reader = reader.select(Chosen::Only { kind: USER, names: names.clone() });
        }
        let options = PlanOptions { only_selected: back.only.is_some(), force: back.force };
        let scratch = self.path("scratch");
        let blind = Blind(journal.reader().unwrap());
        let spans: &dyn Undoable = if back.blind { &blind } else { &reader };
        let draft = Draft::create(&scratch, USER).unwrap();
        draft.departed(back.gone.iter().map(String::as_str)).unwrap();
        if back.accounts {
            let known = reader.by_source(&USER, &self.users).unwrap();
            let leaving =
                known.values().filter_map(|one| Some((one.id, one.target_key.as_deref()?)));
            draft.leaving(leaving).unwrap();
        }
        let plan = RowPlan::make(
            target.as_ref(),
            spans,
            &reader,
            Arc::clone(&layout),
            options,
            draft,
            &mut |_, _| {},
        )
        .await
        .unwrap();
        let plan = Arc::new(plan);
        let mut said = Said::default();
        for counts in plan.counts().unwrap() {
            said.counts.insert(counts.table.clone(), counts);
        }
        plan.refused(&mut |refused| {
            said.refused.push(refused);
            ControlFlow::Continue(())
        })
        .unwrap();
        plan.accounts_kept(2, &mut |kept| {
            let rows = kept.rows.iter().map(|row| {
                let whose = if row.ours { "ours" } else { "theirs" };
                format!("{} {} ({whose})", row.table, row.key)
            });
            let rows: Vec<_> = rows.collect();
            said.accounts.push(format!("{}: {} +{}", kept.account, rows.join(", "), kept.more));
            ControlFlow::Continue(())
        })
        .unwrap();
        for step in stages(&layout) {
            let engine = || Engine::new(Arc::clone(&journal), Arc::new(Unwatched), settings(false));
            match step {
                RowStep::Detach { table } => {
                    let worker = DetachSpans::new(Arc::clone(&target), Arc::clone(&plan), table, 2);
                    run(engine().transition(Arc::new(worker))).await;
                }
                RowStep::Remove { table } => {
                    let worker =
                        Arc::new(UndoSpans::new(Arc::clone(&target), Arc::clone(&plan), table, 2));
                    for round in 0.. {
                        assert!(round < 50, "it goes on and on");
                        let lane = Arc::clone(&worker) as Arc<dyn Transition>;
                        run(engine().transition(lane)).await;
                        if !worker.again() {
                            break;
                        }
                    }
                }
            }
        }
        said
    }

    async fn retry_stuck(&self, journal: &Journal) {
        let reader = journal.reader().unwrap();
        let stuck = reader.in_condition(&[Condition::Stuck], UnitId(0), 10_000).unwrap();
        for unit in reader.load(&stuck).unwrap().into_iter().filter(|unit| unit.kind == SPAN) {
            let change = Change::Step {
                unit: unit.id,
                event: Event::Retried,
                detail: rehome_core::journal::Detail::default(),
            };
            journal.submit(vec![change]).await.unwrap();
        }
    }

    /// An account that stays.
    pub(crate) fn stick(&mut self, user: &str) {
        let user = user.to_owned();
        self.live_through(async |yard, _, _| {
            let journal = yard.journal();
            let unit = journal.reader().unwrap().find(&[user]).unwrap().remove(0);
            let failure = Failure::new("used_since", "it signed in");
            let change = Change::failure(unit.id, Event::Stuck, failure, Vec::new());
            journal.submit(vec![change]).await.unwrap();
        })
        .unwrap();
    }

    /// That nothing of any span is left, by the journal.
    pub(crate) fn assert_all_back(&self) {
        for unit in self.spans() {
            assert!(unit.effect.is_none(), "{}: {:?}", unit.source_key, unit.effect);
            assert_eq!(unit.state.stage, Stage::Exported, "{}", unit.source_key);
            assert_eq!(unit.state.condition, Condition::RolledBack, "{}", unit.source_key);
        }
    }
}
