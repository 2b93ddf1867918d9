//! The lane that reads a source: a page, its units and its checkpoint in one commit, again. One
//! that follows another source begins when that has come to its end.

use std::sync::Arc;

use super::Shared;
use super::board::Report;
use crate::halt::Halt;
use crate::journal::Change;
use crate::progress::Progress;
use crate::transition::Source;
use crate::unit::Kind;

/// Reads a source to its end, or until the run stops.
pub(super) async fn run(
    shared: Arc<Shared>,
    lane: usize,
    source: Arc<dyn Source>,
) -> Result<(), Halt> {
    let begins = match source.follows() {
        Some(kind) => follow(&shared, &kind).await,
        None => true,
    };
    let result = if begins { pages(&shared, source.as_ref()).await } else { Ok(()) };
    if result.is_ok() && !shared.is_stopping() {
        shared.unread.send_modify(|unread| {
            unread.remove(&source.kind());
        });
    }
    shared.board.report(lane, Report::Over);
    result
}

/// Waits until the source of this kind is at its end; `false` when the run stops before.
async fn follow(shared: &Shared, kind: &Kind) -> bool {
    let mut unread = shared.unread.subscribe();
    tokio::select! {
        biased;
        () = shared.stopping() => false,
        over = unread.wait_for(|unread| !unread.contains(kind)) => over.is_ok(),
    }
}

async fn pages(shared: &Shared, source: &dyn Source) -> Result<(), Halt> {
    let kind = source.kind();
    let checkpoint = shared.reader.checkpoint(&kind)?;
    let (mut cursor, mut done) =
        checkpoint.map_or((None, false), |found| (Some(found.cursor), found.done));
    // A source that was read to its end may have newcomers behind it; so may what an earlier run
    // has read of one that is read to its end now.
    let mut resumed = cursor.is_some() && !done && source.goes_on();
    let mut at_the_end = done;
    done &= !source.goes_on();
    let mut known = shared.reader.counts()?.get(&kind).map_or(0, crate::journal::Standing::total);
    while !done && !shared.is_stopping() {
        let before = cursor.clone();
        let page = tokio::select! {
            biased;
            () = shared.stopping() => return Ok(()),
            page = source.next_page(cursor.take()) => page?,
        };
        let news = !page.units.is_empty() || Some(&page.cursor) != before.as_ref();
        if std::mem::take(&mut at_the_end) && page.done && !news {
            return Ok(());
        }
        cursor = Some(page.cursor.clone());
        done = page.done;
        let total = page.total;
        let ack = shared
            .journal
            .submit(vec![Change::Page {
                kind: kind.clone(),
                units: page.units,
                cursor: page.cursor,
                done,
                total,
            }])
            .await?;
        known += ack.new_units;
        shared.watcher.note(&Progress::Exported {
            kind: kind.clone(),
            new: ack.new_units,
            known,
            total,
            done,
        });
        if done && std::mem::take(&mut resumed) {
            (at_the_end, done) = (true, false);
        }
    }
    Ok(())
}
