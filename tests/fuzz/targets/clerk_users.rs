//! A page of users as an instance may answer: what is understood survives the journal, makes a
//! form, and is equal to itself.
#![no_main]

use std::collections::BTreeSet;

use rehome_clerk::api::Page;
use rehome_clerk::export::{Journaled, exported};
use rehome_clerk::{Attribute, CreateUser, Expected, Profile, compare};
use rehome_core::Origin;

libfuzzer_sys::fuzz_target!(init: rehome_fuzz::prepare(), |body: &[u8]| {
    let page = serde_json::from_slice::<Page>(body);
    rehome_fuzz::understood(page.as_ref().is_ok_and(|page| !page.0.is_empty()));
    let Ok(Page(users)) = page else { return };
    for user in &users {
        let profile = Profile::of(user);
        let written = exported(user).data.to_string();
        let read = serde_json::from_str(&written).map(|data| Journaled::from_json(&data));
        let Ok(Ok(journaled)) = read else { panic!("{written}") };
        assert_eq!(journaled.profile, profile);
        assert_eq!(journaled.profile.fingerprint(), profile.fingerprint());
        for without in [BTreeSet::new(), BTreeSet::from(Attribute::ALL)] {
            let form = CreateUser::new(&profile, user.external_id.clone(), &without);
            assert!(serde_json::to_vec(&form).is_ok());
            let expected = Expected {
                profile: profile.clone(),
                external_id: profile.external_id.clone(),
                without,
                origin: Origin::Created,
            };
            assert_eq!(compare(&expected, user), []);
        }
    }
});
