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
use rehome_core::{Halt, Source as _};

/// Users by number, oldest first, and what happens before each list request.
struct Listed {
    users: Vec<u32>,
    behaviour: Behaviour,
    counted: usize,
    requests: usize,
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
        let answer = Exchange::Answered(Answer { status, retry_after: None, body });
        Box::pin(std::future::ready(answer))
    }
}

impl Listed {
    fn answer(&mut self, path: &str) -> (u16, String) {
        if path.starts_with("/users/count") {
            return (200, format!(r#"{{"total_count":{}}}"#, self.users.len().max(self.counted)));
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
    let memory = Memory(Arc::new(Mutex::new(Listed { users, behaviour, counted: 0, requests: 0 })));
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

#[tokio::test]
async fn a_list_that_never_shows_what_is_counted_ends_the_run() {
    let (memory, source) = instance(Behaviour::EmptyAfterUnknown, 25);
    memory.0.lock().unwrap().counted = 26;
    let Err(Halt::Refused { message, .. }) = read(&source, || ()).await else { panic!() };
    assert!(message.contains("counts 26 users"), "{message}");
}
