//! Every answer means one thing.

use proptest::prelude::*;

use super::*;

fn reply(status: u16, body: &str) -> Reply {
    Reply::Answered { status, body: body.as_bytes().to_vec(), retry_after: None }
}

fn error(status: u16, code: i64, message: &str) -> Trouble {
    let body = serde_json::json!({"messages": [], "result": [], "success": false,
        "errors": [{"code": code, "message": message}]});
    results(reply(status, &body.to_string())).unwrap_err()
}

/// What rehome makes of an answer.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Meant {
    Refused(Refusal),
    Later,
    Closed(RemoteTrouble),
    Gone,
    Lost,
}

fn meant(trouble: &Trouble) -> Meant {
    match trouble {
        Trouble::Refused { refusal, .. } => Meant::Refused(*refusal),
        Trouble::Later { .. } => Meant::Later,
        Trouble::Closed { trouble, .. } => Meant::Closed(*trouble),
        Trouble::Gone { .. } => Meant::Gone,
        Trouble::Lost { .. } => Meant::Lost,
    }
}

const DEBUG: &str = "developers.cloudflare.com/d1/observability/debug-d1";
const RETRY: &str = "developers.cloudflare.com/d1/best-practices/retry-queries";
const LIMITS: &str = "developers.cloudflare.com/d1/platform/limits";
const NOTES: &str = "developers.cloudflare.com/d1/platform/release-notes";
const ENGINE: &str = "measured with workerd 1.20261117.1";

/// Every failure that Cloudflare documents or that was seen of it: status, code, text, where it is
/// from, and what it means.
#[rustfmt::skip]
const FAILURES: &[(u16, i64, &str, &str, Meant)] = &[
    // SQLite said no. Whatever the status: the local explorer says 500 and 10001.
    (400, 7500, "too many SQL variables at offset 434: SQLITE_ERROR", "nerdfolio/cloudflare-helpers#5, a production capture", Meant::Refused(Refusal::Other)),
    (400, 7500, "UNIQUE constraint failed: users.id: SQLITE_CONSTRAINT", ENGINE, Meant::Refused(Refusal::Unique)),
    (400, 7500, "FOREIGN KEY constraint failed", "workers-sdk#5271", Meant::Refused(Refusal::ForeignKey)),
    (400, 7500, "FOREIGN KEY constraint failed: SQLITE_CONSTRAINT", "workers-sdk#5438", Meant::Refused(Refusal::ForeignKey)),
    (400, 7500, "NOT NULL constraint failed: t.a: SQLITE_CONSTRAINT", ENGINE, Meant::Refused(Refusal::Constraint)),
    (400, 7500, "CHECK constraint failed: a > 0: SQLITE_CONSTRAINT", ENGINE, Meant::Refused(Refusal::Constraint)),
    (400, 7500, "cannot store TEXT value in INTEGER column t.a: SQLITE_CONSTRAINT", ENGINE, Meant::Refused(Refusal::Constraint)),
    (400, 7500, "statement too long: SQLITE_TOOBIG", "workers-sdk#4510, #6347", Meant::Refused(Refusal::TooBig)),
    (400, 7500, "string or blob too big: SQLITE_TOOBIG", ENGINE, Meant::Refused(Refusal::TooBig)),
    (400, 7500, "integer overflow: SQLITE_ERROR", ENGINE, Meant::Refused(Refusal::Guard)),
    (500, 10001, "integer overflow: SQLITE_ERROR", ENGINE, Meant::Refused(Refusal::Guard)),
    (500, 10001, "no such column: nope at offset 7: SQLITE_ERROR", ENGINE, Meant::Refused(Refusal::Other)),
    (400, 7500, "not authorized: SQLITE_AUTH", ENGINE, Meant::Refused(Refusal::Other)),
    (400, 7500, "No SQL statements detected.", ENGINE, Meant::Refused(Refusal::Other)),
    (413, 0, "Payload Too Large", "RFC 9110", Meant::Refused(Refusal::TooBig)),
    // Turned away before it was looked at.
    (429, 971, "Please wait and consider throttling your request speed", "developers.cloudflare.com/fundamentals/api/reference/limits", Meant::Later),
    (429, 7500, "D1 DB is overloaded. Requests queued for too long.", DEBUG, Meant::Later),
    (429, 7500, "D1 DB is overloaded. Too many requests queued.", DEBUG, Meant::Later),
    (500, 7500, "D1 DB is overloaded. Requests queued for too long.", NOTES, Meant::Later),
    (400, 7500, "Currently processing a long-running export.", "workers-sdk#9519", Meant::Later),
    (400, 7500, "Currently processing a long-running import.", "not documented; the counterpart of the export", Meant::Later),
    (400, 7500, "D1_RESET_DO: Currently processing another export. Cannot start a new export until that completes or times out", "workers-sdk#9578", Meant::Later),
    // Nothing that this run could mend.
    (401, 10000, "Authentication error", "OpenDAL, services/d1/error.rs", Meant::Closed(RemoteTrouble::Authentication)),
    (403, 10000, "Authentication error", "OpenDAL, services/d1/error.rs", Meant::Closed(RemoteTrouble::Authentication)),
    (400, 9109, "Invalid access token", "developers.cloudflare.com/api", Meant::Closed(RemoteTrouble::Authentication)),
    (400, 7500, "Exceeded maximum DB size.", LIMITS, Meant::Closed(RemoteTrouble::Quota)),
    (400, 7500, "Your account has exceeded D1's maximum account storage limit, please contact Cloudflare to raise your limit.", LIMITS, Meant::Closed(RemoteTrouble::Quota)),
    (400, 7500, "D1 daily row write limit exceeded", "developers.cloudflare.com/d1/platform/pricing, which gives no wording", Meant::Closed(RemoteTrouble::Quota)),
    (400, 7500, "database or disk is full: SQLITE_FULL", "sqlite.org/rescode.html", Meant::Closed(RemoteTrouble::Quota)),
    (400, 7400, "failed to decode id", "OpenDAL, services/d1/error.rs", Meant::Closed(RemoteTrouble::Protocol)),
    (400, 7003, "Could not route to /accounts, perhaps your object identifier is invalid?", "Cloudflare's OpenAPI document", Meant::Closed(RemoteTrouble::Protocol)),
    (302, 0, "", "no redirect is followed", Meant::Closed(RemoteTrouble::Protocol)),
    (404, 7404, "The database x could not be found", "miniflare, local-explorer/d1.ts", Meant::Gone),
    (404, 7003, "Could not route to /accounts, perhaps your object identifier is invalid?", "Cloudflare's OpenAPI document", Meant::Gone),
    // It may have happened.
    (500, 7500, "D1 DB reset because its code was updated.", DEBUG, Meant::Lost),
    (500, 7500, "Internal error while starting up D1 DB storage caused object to be reset.", DEBUG, Meant::Lost),
    (500, 7500, "Network connection lost.", DEBUG, Meant::Lost),
    (400, 7500, "Network connection lost.", "workers-sdk#11958", Meant::Lost),
    (500, 7500, "Internal error in D1 DB storage caused object to be reset.", DEBUG, Meant::Lost),
    (400, 7500, "Cannot resolve D1 DB due to transient issue on remote node.", DEBUG, Meant::Lost),
    (400, 7500, "Can't read from request stream because client disconnected.", DEBUG, Meant::Lost),
    (400, 7500, "D1 DB storage operation exceeded timeout which caused object to be reset.", DEBUG, Meant::Lost),
    (400, 7500, "D1 DB's isolate exceeded its memory limit and was reset.", DEBUG, Meant::Lost),
    (400, 7500, "D1 DB exceeded its CPU time limit and was reset.", DEBUG, Meant::Lost),
    (400, 7500, "D1 storage operation caused object to be reset.", RETRY, Meant::Lost),
    (500, 10001, "internal error; reference = abc", ENGINE, Meant::Lost),
    (500, 7501, "internal error", "cloudflare-typescript", Meant::Lost),
    (504, 7009, "The request timed out", "workers-sdk#13690", Meant::Lost),
    (502, 0, "", "RFC 9110", Meant::Lost),
    (503, 0, "", "RFC 9110", Meant::Lost),
    (524, 0, "A timeout occurred", "developers.cloudflare.com/support/troubleshooting", Meant::Lost),
    (200, 7500, "anything in an answer that is no success", "the envelope", Meant::Lost),
];

#[test]
fn every_failure_that_is_known_means_one_thing() {
    for (status, code, message, source, expected) in FAILURES {
        // As it comes, and as the library inside Workers begins it.
        for text in [(*message).to_owned(), format!("D1_ERROR: {message}")] {
            let trouble = error(*status, *code, &text);
            assert_eq!(meant(&trouble), *expected, "{status} {code} {text} ({source})");
        }
    }
}

#[test]
fn an_answer_that_cannot_be_read_may_hide_anything() {
    for body in ["", "{", "<html>", "{\"success\":true,\"result\":[{\"results\":3}]}"] {
        let trouble = results(reply(200, body)).unwrap_err();
        assert_eq!(meant(&trouble), Meant::Lost, "{body}: {trouble:?}");
    }
    let lost = Reply::Lost { reason: "reset".to_owned() };
    assert_eq!(meant(&results(lost).unwrap_err()), Meant::Lost);
    let unsent = Reply::NotSent { reason: "no route to host".to_owned() };
    assert_eq!(meant(&results(unsent).unwrap_err()), Meant::Later);
}

#[test]
fn how_long_the_sql_took_is_read_in_milliseconds() {
    let body = |duration: &str| {
        format!(
            r#"{{"success":true,"result":[{{"success":true,"meta":{{"duration":{duration}}}}}]}}"#
        )
    };
    for (duration, expected) in
        [("1500.5", 1_500_500), ("0", 0), ("-3", 0), ("null", 0), ("1e300", 0)]
    {
        let results = results(reply(200, &body(duration))).unwrap();
        assert_eq!(results[0].took, Duration::from_micros(expected), "{duration}");
    }
}

/// A text with some of its bytes changed, taken out or doubled.
fn damaged(text: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let cut = (any::<prop::sample::Index>(), 0_usize..12, ".{0,8}", any::<bool>());
    prop::collection::vec(cut, 1..6).prop_map(move |cuts| {
        let mut bytes = text.as_bytes().to_vec();
        for (at, length, put, twice) in cuts {
            let at = at.index(bytes.len() + 1);
            let end = (at + length).min(bytes.len());
            let mut new = put.into_bytes();
            if twice {
                let old = bytes[at..end].to_vec();
                new.extend(old.iter().chain(&old));
            }
            bytes.splice(at..end, new);
        }
        bytes
    })
}

const ROWS: &str = r#"{"success":true,"errors":[],"result":[{"results":{"columns":["a"],
    "rows":[["i:1"],[null]]},"success":true,"meta":{"changes":2}}]}"#;
const REFUSED: &str = r#"{"success":false,"result":[],"errors":[{"code":7500,
    "message":"UNIQUE constraint failed: t.id: SQLITE_CONSTRAINT"}]}"#;

proptest! {
    #[test]
    fn any_answer_is_survived_and_only_a_success_is_one(
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            damaged(ROWS),
            damaged(REFUSED),
        ],
        status in prop_oneof![Just(200), 100_u16..600],
    ) {
        let reply = || Reply::Answered { status, body: body.clone(), retry_after: None };
        let understood = document(reply()).is_ok() | results(reply()).is_ok();
        prop_assert!(!understood || (200..300).contains(&status));
    }
}
