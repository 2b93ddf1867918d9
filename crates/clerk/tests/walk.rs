//! The export against instances that do not do what a cursor should, answered from memory.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::{RATE, reader, transport_over};
use futures::future::BoxFuture;
use rehome_clerk::UserSource;
use rehome_clerk::wire::{Answer, Exchange, Request, Wire};
use rehome_core::pacer::Pacer;
use rehome_core::{Halt, RemoteTrouble, Source as _};
use serde_json::Value;

/// Users by number, oldest first, and what happens before each list request.
struct Listed {
    users: Vec<u32>,
    behaviour: Behaviour,
    counted: usize,
    requests: usize,
    counts: usize,
    /// Somebody signs up before every count.
    sign_ups: bool,
}

#[derive(Clone, Copy)]
enum Behaviour {
    /// `starting_after` is not looked at.
    IgnoresCursor,
    /// A cursor that is not there (any more) is answered with nothing.
    EmptyAfterUnknown,
    /// No cursor at all; before every request two of the first users are deleted.
    OffsetWhileDeleting,
}

#[derive(Clone)]
struct Memory(Arc<Mutex<Listed>>);

impl Wire for Memory {
    fn exchange(&self, request: Request) -> BoxFuture<'_, Exchange> {
        let (status, body) = self.0.lock().unwrap().answer(&request.path);
        let body = Bytes::from(body);
        let answer = Exchange::Answered(Answer { status, retry_after: None, date: None, body });
        Box::pin(std::future::ready(answer))
    }
}

impl Listed {
    fn answer(&mut self, path: &str) -> (u16, String) {
        if path.starts_with("/users/count") {
            self.counts += 1;
            if self.sign_ups {
                self.users.push(self.users.last().map_or(0, |last| last + 1));
            }
            return (200, format!(r#"{{"total_count":{}}}"#, self.users.len().max(self.counted)));
        }
        if let Some(id) = path.strip_prefix("/users/user_") {
            let id: u32 = id.parse().unwrap();
            return if self.users.contains(&id) {
                (200, format!(r#"{{"id":"user_{id}"}}"#))
            } else {
                (404, r#"{"errors":[{"code":"resource_not_found","message":"x"}]}"#.to_owned())
            };
        }
        let value = |name: &str| {
            let (_, query) = path.split_once('?').unwrap();
            query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        self.requests += 1;
        let limit: usize = value("limit").unwrap().parse().unwrap();
        let offset: usize = value("offset").map_or(0, |offset| offset.parse().unwrap());
        let after: Option<u32> =
            value("starting_after").map(|id| id.trim_start_matches("user_").parse().unwrap());
        let from = match (self.behaviour, after) {
            (Behaviour::IgnoresCursor, _) | (_, None) => offset,
            (Behaviour::EmptyAfterUnknown, Some(after)) => self
                .users
                .iter()
                .position(|user: &u32| *user == after)
                .map_or(usize::MAX, |at| at + 1),
            (Behaviour::OffsetWhileDeleting, Some(_)) => {
                let body = r#"{"errors":[{"code":"form_param_unknown","message":"is unknown","meta":{"param_name":"starting_after"}}]}"#;
                return (422, body.to_owned());
            }
        };
        if matches!(self.behaviour, Behaviour::OffsetWhileDeleting) && self.requests > 1 {
            self.users.drain(..2.min(self.users.len()));
        }
        let page: Vec<_> = self.users.iter().skip(from).take(limit).collect();
        let page: Vec<_> = page.iter().map(|id| format!(r#"{{"id":"user_{id}"}}"#)).collect();
        (200, format!("[{}]", page.join(",")))
    }
}

fn instance(behaviour: Behaviour, users: u32) -> (Memory, UserSource) {
    let users = (0..users).collect();
    let memory = Memory(Arc::new(Mutex::new(Listed {
        users,
        behaviour,
        counted: 0,
        requests: 0,
        counts: 0,
        sign_ups: false,
    })));
    let transport = transport_over(memory.clone(), Arc::new(Pacer::new(RATE, 1.0)));
    (memory, UserSource::new(reader(&transport)).with_page(10))
}

async fn read(source: &UserSource, after_first: impl FnOnce()) -> Result<BTreeSet<String>, Halt> {
    let mut page = source.next_page(None).await?;
    after_first();
    let mut found = BTreeSet::new();
    for _ in 0..1000 {
        found.extend(page.units.into_iter().map(|unit| unit.source_key));
        if page.done {
            return Ok(found);
        }
        page = source.next_page(Some(page.cursor)).await?;
    }
    panic!("the walk does not end");
}

#[tokio::test]
async fn an_ignored_cursor_does_not_walk_in_circles() {
    let (_, source) = instance(Behaviour::IgnoresCursor, 95);
    assert_eq!(read(&source, || ()).await.unwrap().len(), 95);
}

#[tokio::test]
async fn a_dead_cursor_that_is_answered_with_nothing_is_not_the_end() {
    let (memory, source) = instance(Behaviour::EmptyAfterUnknown, 95);
    let found = read(&source, || {
        memory.0.lock().unwrap().users.retain(|user| *user != 9);
    });
    assert_eq!(found.await.unwrap().len(), 95);
}

#[tokio::test]
async fn deletions_during_a_walk_by_offset_hide_nobody() {
    let (memory, source) = instance(Behaviour::OffsetWhileDeleting, 95);
    let found = read(&source, || ()).await.unwrap();
    let left = memory.0.lock().unwrap().users.clone();
    assert!(!left.is_empty());
    for user in left {
        assert!(found.contains(&format!("user_{user}")), "user_{user} is missing");
    }
}

/// Goes on after the end, to the next end.
async fn go_on(source: &UserSource, mut cursor: Value) -> (Vec<String>, Value) {
    let mut found = Vec::new();
    for _ in 0..100 {
        let page = source.next_page(Some(cursor)).await.unwrap();
        found.extend(page.units.into_iter().map(|unit| unit.source_key));
        cursor = page.cursor;
        if page.done {
            return (found, cursor);
        }
    }
    panic!("the walk does not end");
}

async fn to_the_end(source: &UserSource) -> (Vec<String>, Value) {
    let first = source.next_page(None).await.unwrap();
    let (mut found, cursor) = go_on(source, first.cursor).await;
    found.extend(first.units.into_iter().map(|unit| unit.source_key));
    (found, cursor)
}

fn ids(users: std::ops::Range<u32>) -> Vec<String> {
    users.map(|user| format!("user_{user}")).collect()
}

#[tokio::test]
async fn a_count_that_the_list_never_reaches_ends_a_walk_by_cursor() {
    let (memory, source) = instance(Behaviour::EmptyAfterUnknown, 25);
    memory.0.lock().unwrap().counted = 26;
    assert_eq!(read(&source, || ()).await.unwrap().len(), 25);
}

#[tokio::test]
async fn sign_ups_before_every_count_do_not_keep_a_walk_by_cursor_from_its_end() {
    let (memory, source) = instance(Behaviour::EmptyAfterUnknown, 30);
    memory.0.lock().unwrap().sign_ups = true;
    let found = read(&source, || ()).await.unwrap();
    assert!(found.len() >= 30);
}

#[tokio::test]
async fn two_walks_by_offset_that_agree_are_believed() {
    let (memory, source) = instance(Behaviour::IgnoresCursor, 25);
    memory.0.lock().unwrap().counted = 26;
    assert_eq!(read(&source, || ()).await.unwrap().len(), 25);
}

#[tokio::test]
async fn a_list_by_offset_that_never_holds_still_ends_a_run_that_can_be_resumed() {
    let (memory, source) = instance(Behaviour::IgnoresCursor, 25);
    memory.0.lock().unwrap().sign_ups = true;
    let mut cursor = None;
    let halt = loop {
        match source.next_page(cursor.clone()).await {
            Ok(page) => {
                assert!(!page.done);
                cursor = Some(page.cursor);
            }
            Err(halt) => break halt,
        }
    };
    let Halt::Remote { trouble: RemoteTrouble::Unreachable, .. } = halt else { panic!("{halt}") };

    // Another run, with one account that is counted but never shown: the walks agree.
    let users = {
        let mut listed = memory.0.lock().unwrap();
        listed.sign_ups = false;
        listed.counted = listed.users.len() + 1;
        listed.users.len()
    };
    let transport = transport_over(memory.clone(), Arc::new(Pacer::new(RATE, 1.0)));
    let source = UserSource::new(reader(&transport)).with_page(10);
    let (found, _) = go_on(&source, cursor.unwrap()).await;
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>().len(), users);
}

#[tokio::test]
async fn after_the_end_a_walk_by_cursor_brings_those_who_came_since() {
    for deleted in [None, Some(29)] {
        let (memory, source) = instance(Behaviour::EmptyAfterUnknown, 30);
        let (found, cursor) = to_the_end(&source).await;
        assert_eq!(found.len(), 30);
        assert_eq!(go_on(&source, cursor.clone()).await, (Vec::new(), cursor.clone()));
        {
            let mut listed = memory.0.lock().unwrap();
            listed.users.retain(|user| Some(*user) != deleted);
            listed.counts = 0;
        }
        assert_eq!(go_on(&source, cursor.clone()).await, (Vec::new(), cursor.clone()));
        memory.0.lock().unwrap().users.extend(30..33);
        let (found, cursor) = go_on(&source, cursor).await;
        assert_eq!(found, ids(30..33), "{deleted:?} deleted");
        assert_eq!(go_on(&source, cursor.clone()).await, (Vec::new(), cursor));
        assert_eq!(memory.0.lock().unwrap().counts, 0);
    }
}

#[tokio::test]
async fn after_the_end_a_walk_by_offset_brings_those_who_came_since() {
    for deleted in [None, Some(29), Some(3)] {
        let (memory, source) = instance(Behaviour::IgnoresCursor, 30);
        let (_, cursor) = to_the_end(&source).await;
        {
            let mut listed = memory.0.lock().unwrap();
            listed.users.retain(|user| Some(*user) != deleted);
            listed.users.extend(30..33);
            listed.counts = 0;
        }
        let (found, cursor) = go_on(&source, cursor).await;
        assert!(found.ends_with(&ids(30..33)), "{deleted:?} deleted: {found:?}");
        let (found, _) = go_on(&source, cursor).await;
        assert!(found.iter().all(|known| !ids(33..99).contains(known)));
        assert_eq!(memory.0.lock().unwrap().counts, 0);
    }
}
