//! Whole migrations of users between two emulated instances, through the real engine and journal.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use common::{World, code, reader, unit, units};
use rehome_clerk::audit::{Audit, Finding, Memory, Remembered};
use rehome_clerk::{Attribute, ExternalId, OnExisting, USER, UserPolicy};
use rehome_core::engine::Finish;
use rehome_core::{Condition, Halt, Known, Origin, RemoteTrouble, Stage, journal};
use rehome_emulator::fault::{BodyKind, Fault, RetryAfter, Rule, When};
use rehome_emulator::seed::{self, SeedIdentifier, SeedUser, Status};
use rehome_emulator::{Cursor, FaultPlan};

fn policy() -> UserPolicy {
    UserPolicy::default()
}

fn user(address: &str) -> SeedUser {
    SeedUser { created_at: Some(1_600_000_000_123), ..SeedUser::with_email(address) }
}

fn unverified(address: &str) -> SeedUser {
    SeedUser {
        email_addresses: vec![SeedIdentifier::with(address, Status::Unverified)],
        created_at: Some(1_600_000_000_123),
        ..SeedUser::default()
    }
}

/// What the audit needs of the journal, read from it.
struct Journaled(journal::Reader);

impl Memory for Journaled {
    fn remembered(&self, users: &[Known]) -> Result<HashMap<String, Remembered>, journal::Error> {
        users
            .iter()
            .map(|known| {
                let unit = self.0.unit(known.id)?;
                Ok((known.source_key.clone(), Remembered::from_json(&unit.data, None)))
            })
            .collect()
    }
}

async fn audit(world: &World, path: &std::path::Path, policy: UserPolicy) -> Vec<Finding> {
    let open = || journal::Reader::open(path).unwrap();
    let (source, target) = (reader(&world.source), reader(&world.target));
    let mut audit =
        Audit::new(source, target, Arc::new(open()), Arc::new(Journaled(open())), policy)
            .with_page(50);
    let mut findings = Vec::new();
    audit.walk(&mut |finding| findings.push(finding)).await.unwrap();
    let keys: Vec<_> = units(path).into_iter().map(|unit| unit.source_key).collect();
    let known = rehome_core::Knowledge::by_source(&open(), &USER, &keys).unwrap();
    let known: Vec<_> = known.into_values().collect();
    audit.rest(&known, &mut |finding| findings.push(finding)).await.unwrap();
    findings
}

#[tokio::test]
async fn every_user_gets_exactly_one_account_whatever_the_network_does() {
    let world = World::start().await;
    for user in seed::users(400, 7) {
        world.source().insert_seed(user).unwrap();
    }
    world.target().configure(|settings| settings.visibility_delay_ms = 100);
    let after = |fault: Fault| Rule::always(fault).with_probability(0.04);
    let status = |status, body, when| Fault::Status { status, body, retry_after: None, when };
    world.emulator.set_faults(FaultPlan {
        seed: 11,
        rules: vec![
            after(Fault::Reset { when: When::After }),
            after(Fault::Reset { when: When::Before }),
            after(Fault::Truncate),
            after(Fault::WrongShape),
            after(Fault::RepeatPage),
            after(status(502, BodyKind::Html, When::After)),
            after(status(500, BodyKind::Json, When::Before)),
            after(status(503, BodyKind::Empty, When::After)),
            Rule::always(Fault::Status {
                status: 429,
                body: BodyKind::Json,
                retry_after: Some(RetryAfter::Seconds(0)),
                when: When::Before,
            })
            .with_probability(0.02),
        ],
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    assert_eq!(world.run(&path, policy()).await.unwrap(), Finish::Quiescent);

    let units = units(&path);
    assert_eq!(units.len(), 400);
    for unit in &units {
        assert_eq!(unit.state.stage, Stage::Mapped, "{unit:?}");
        assert_eq!(unit.origin, Some(Origin::Created), "{unit:?}");
    }
    let counters = world.target().counters();
    assert_eq!(counters.creates, 400);
    assert!(counters.creates_by_external_id.values().all(|count| *count == 1));
    assert_eq!(world.target().count(), 400);

    world.emulator.clear_faults();
    let findings = audit(&world, &path, policy()).await;
    assert_eq!(findings.len(), 400);
    for finding in findings {
        assert!(matches!(finding, Finding::Equal(_)), "{finding:#?}");
    }

    world.target().reset_counters();
    assert_eq!(world.run(&path, policy()).await.unwrap(), Finish::Quiescent);
    assert_eq!(world.target().counters().writes_requested(), 0);
}

#[tokio::test]
async fn a_look_up_costs_a_few_hundredths_of_a_request() {
    let mut world = World::start().await;
    world.page = 500;
    for user in seed::users(400, 3) {
        world.source().insert_seed(user).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let stop_at_create = Rule::always(Fault::Status {
        status: 401,
        body: BodyKind::Json,
        retry_after: None,
        when: When::Before,
    });
    world.emulator.set_faults(FaultPlan::of([stop_at_create.on("POST", "/v1/users")]));
    let halt = world.run(&path, policy()).await.unwrap_err();
    let Halt::Remote { trouble, .. } = halt else { panic!("{halt}") };
    assert_eq!(trouble, RemoteTrouble::Authentication);
    let requests = world.target().counters().requests;
    // Every user of this population has more identifiers than people usually have.
    assert!(requests["GET /v1/users"] <= 16, "{requests:?}");
}

#[tokio::test]
async fn accounts_that_are_there_are_adopted_skipped_or_left_to_a_person() {
    for (on_existing, stage, condition, said) in [
        (OnExisting::Adopt, Stage::Mapped, Condition::Ready, ""),
        (OnExisting::Skip, Stage::Exported, Condition::Skipped, "exists_in_target"),
        (OnExisting::Fail, Stage::Exported, Condition::Failed, "exists_in_target"),
    ] {
        let world = World::start().await;
        let here = world.source().insert_seed(user("Ada@example.com")).unwrap();
        let there = world.target().insert_seed(user("ada@example.com")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        world.run(&path, UserPolicy { on_existing, ..policy() }).await.unwrap();
        let unit = unit(&path, &here);
        assert_eq!((unit.state.stage, unit.state.condition), (stage, condition));
        assert_eq!(code(&unit), said);
        if on_existing == OnExisting::Adopt {
            assert_eq!(unit.target_key.as_deref(), Some(there.as_str()));
            assert_eq!(unit.origin, Some(Origin::Adopted));
            let findings = audit(&world, &path, policy()).await;
            assert!(matches!(&findings[..], [Finding::Equal(_)]), "{findings:?}");
        }
        assert_eq!(world.target().counters().writes_requested(), 0);
    }
}

#[tokio::test]
async fn nothing_is_guessed() {
    let world = World::start().await;
    let (source, target) = (world.source(), world.target());
    let put = |user: SeedUser| source.insert_seed(user).unwrap();

    // Two people type the same address, and neither proves it.
    let typed = [put(unverified("typed@x.org")), put(unverified("typed@x.org"))];
    // One proves it: the other is not to get it.
    let owner = put(user("owned@x.org"));
    let pretender = put(unverified("Owned@x.org"));
    // An account with the identifiers of two source users.
    let both = [put(user("a@x.org")), put(user("b@x.org"))];
    let mut shared = user("a@x.org");
    shared.email_addresses.push(SeedIdentifier::verified("b@x.org"));
    target.insert_seed(shared).unwrap();
    // Two accounts with the identifiers of one source user.
    let mut two = user("c@x.org");
    two.email_addresses.push(SeedIdentifier::verified("d@x.org"));
    let two = put(two);
    target.insert_seed(user("c@x.org")).unwrap();
    target.insert_seed(user("d@x.org")).unwrap();
    // The same word as username is no proof.
    let named = |address: &str| SeedUser { username: Some("sam".into()), ..user(address) };
    let sam = put(named("e@x.org"));
    target.insert_seed(named("f@x.org")).unwrap();
    // The target's owner has not proven the address.
    let doubtful = put(user("g@x.org"));
    target.insert_seed(unverified("g@x.org")).unwrap();
    // The key of one with the address of another.
    let keyed = put(user("h@x.org"));
    let addressed = put(user("i@x.org"));
    target.insert_seed(SeedUser { external_id: Some(keyed.clone()), ..user("i@x.org") }).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    world.run(&path, policy()).await.unwrap();

    for (who, said) in [
        (&typed[0], "identifier_shared"),
        (&typed[1], "identifier_shared"),
        (&owner, ""),
        (&pretender, "identifier_shared"),
        (&both[0], "target_shared"),
        (&both[1], "target_shared"),
        (&two, "several_accounts"),
        (&sam, "unproven_match"),
        (&doubtful, "unproven_match"),
        (&keyed, "account_conflict"),
        (&addressed, "account_conflict"),
    ] {
        assert_eq!(code(&unit(&path, who)), said, "{:?}", unit(&path, who));
    }
    let told = unit(&path, &both[0]).failure.unwrap().message;
    assert!(both.iter().all(|id| told.contains(id)), "{told}");
    assert_eq!(target.counters().creates, 1);
}

#[tokio::test]
async fn an_account_under_our_key_is_ours_again() {
    let world = World::start().await;
    let here = world.source().insert_seed(user("a@x.org")).unwrap();
    let there = SeedUser { external_id: Some(here.clone()), ..unverified("a@x.org") };
    world.target().insert_seed(there).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    world.run(&path, policy()).await.unwrap();
    assert_eq!(unit(&path, &here).origin, Some(Origin::Adopted));
}

#[tokio::test]
async fn what_the_target_refuses_is_left_out_only_where_that_is_allowed() {
    for allowed in [false, true] {
        let world = World::start().await;
        let mut one = user("a@x.org");
        one.banned = true;
        one.phone_numbers = vec![SeedIdentifier::verified("+12125550100")];
        let one = world.source().insert_seed(one).unwrap();
        let other = world.source().insert_seed(user("b@x.org")).unwrap();
        world.target().configure(|settings| {
            settings.ban_plan = false;
            settings.attributes.retain(|one| *one != rehome_emulator::Attribute::PhoneNumber);
        });
        let without = [Attribute::Banned, Attribute::PhoneNumber];
        let policy = UserPolicy {
            without: if allowed { BTreeSet::from(without) } else { BTreeSet::new() },
            ..policy()
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        world.run(&path, policy.clone()).await.unwrap();
        assert_eq!(unit(&path, &other).state.stage, Stage::Mapped);
        let unit = unit(&path, &one);
        if allowed {
            assert_eq!(unit.state.stage, Stage::Mapped, "{unit:?}");
            let made = world.target().user_by_external_id(&one).unwrap();
            assert!(!made.banned && made.phone_numbers.is_empty());
        } else {
            assert_eq!(unit.state.condition, Condition::Failed);
            let hint = unit.failure.unwrap().hint.unwrap();
            assert!(hint.contains("without = ["), "{hint}");
        }
    }
}

#[tokio::test]
async fn without_a_key_a_lost_answer_is_settled_by_the_identifiers() {
    let world = World::start().await;
    let here = world.source().insert_seed(user("a@x.org")).unwrap();
    world.emulator.set_faults(FaultPlan::of([Rule::always(Fault::Reset { when: When::After })
        .on("POST", "/v1/users")
        .times(1)]));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let policy = UserPolicy { external_id: ExternalId::None, ..policy() };
    world.run(&path, policy).await.unwrap();
    let unit = unit(&path, &here);
    assert_eq!((unit.state.stage, unit.origin), (Stage::Mapped, Some(Origin::Created)));
    assert_eq!(world.target().counters().creates, 1);
    assert_eq!(world.target().users()[0].external_id, None);
}

#[tokio::test]
async fn a_full_instance_ends_the_run_and_more_room_lets_it_go_on() {
    let world = World::start().await;
    for number in 0..20 {
        world.source().insert_seed(user(&format!("u{number}@x.org"))).unwrap();
    }
    world.target().configure(|settings| settings.user_cap = Some(7));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let halt = world.run(&path, policy()).await.unwrap_err();
    let Halt::Remote { trouble, hint, .. } = halt else { panic!("{halt}") };
    assert_eq!(trouble, RemoteTrouble::Quota);
    assert!(hint.contains("100 users"));
    world.target().configure(|settings| settings.user_cap = None);
    world.run(&path, policy()).await.unwrap();
    assert!(units(&path).iter().all(|unit| unit.state.stage == Stage::Mapped));
    assert_eq!(world.target().counters().creates, 20);
}

#[tokio::test]
async fn a_secret_sign_up_rule_of_the_target_fails_one_user_with_its_code() {
    let world = World::start().await;
    let refused = world.source().insert_seed(user("a@blocked.example")).unwrap();
    world
        .target()
        .configure(|settings| settings.refused_addresses = vec!["blocked.example".into()]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    world.run(&path, policy()).await.unwrap();
    assert_eq!(code(&unit(&path, &refused)), "not_allowed_access");
}

#[tokio::test]
async fn an_audit_tells_every_kind_of_difference() {
    let world = World::start().await;
    let ids: Vec<_> =
        (0..6).map(|n| world.source().insert_seed(user(&format!("u{n}@x.org"))).unwrap()).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    world.run(&path, policy()).await.unwrap();
    let target = |n: usize| unit(&path, &ids[n]).target_key.unwrap();

    world.target().change_user(&target(0), |user| user.first_name = Some("Eve".into()));
    world.target().remove_user(&target(1));
    let extra = world.target().insert_seed(user("stranger@x.org")).unwrap();
    world.source().change_user(&ids[2], |user| {
        user.last_name = Some("Later".into());
        user.updated_at += 1;
    });
    world.source().remove_user(&ids[3]);

    let findings = audit(&world, &path, policy()).await;
    let equal = findings.iter().filter(|finding| matches!(finding, Finding::Equal(_))).count();
    assert_eq!((equal, findings.len()), (2, 7));
    let of = |n: usize| {
        findings
            .iter()
            .find(|finding| match finding {
                Finding::Different { pair, .. } | Finding::Missing(pair) | Finding::Left(pair) => {
                    pair.source == ids[n]
                }
                _ => false,
            })
            .unwrap()
    };
    let Finding::Different { differences, source_changed: false, .. } = of(0) else { panic!() };
    assert_eq!(differences[0].field, "first_name");
    assert!(matches!(of(1), Finding::Missing(_)));
    assert!(matches!(of(2), Finding::Different { source_changed: true, .. }));
    assert!(matches!(of(3), Finding::Left(_)));
    assert!(findings.contains(&Finding::Extra { target: extra }));
}

#[tokio::test]
async fn the_export_misses_nobody_however_the_cursor_behaves() {
    use rehome_core::Source as _;
    for cursor in [Cursor::Supported, Cursor::DeletedRefused, Cursor::Refused] {
        for deleted in [0, 1, 3, 12] {
            let world = World::start().await;
            world.source().configure(|settings| settings.cursor = cursor);
            for user in seed::users(120, 5) {
                world.source().insert_seed(user).unwrap();
            }
            let all: Vec<_> = world.source().users().iter().map(|user| user.id.clone()).collect();
            let source = rehome_clerk::UserSource::new(reader(&world.source)).with_page(20);
            let first = source.next_page(None).await.unwrap();
            assert_eq!((first.total, first.units.len()), (Some(120), 20));
            // The last ones of the page that was read go, and somebody comes.
            for id in &all[20 - deleted..20] {
                assert!(world.source().remove_user(id));
            }
            let late = world.source().insert_seed(SeedUser::with_email("late@x.org")).unwrap();
            let mut found: BTreeSet<_> = first.units.into_iter().map(|u| u.source_key).collect();
            let mut next = first.cursor;
            loop {
                let page = source.next_page(Some(next)).await.unwrap();
                found.extend(page.units.into_iter().map(|unit| unit.source_key));
                next = page.cursor;
                if page.done {
                    break;
                }
            }
            assert_eq!(found.len(), 121, "{cursor:?}, {deleted} deleted");
            assert!(found.contains(&late));
        }
    }
}
