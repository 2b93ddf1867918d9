//! A new journal comes only where nothing of another one is left.

use super::*;

fn files(place: &Place) -> Vec<String> {
    let folder = std::fs::read_dir(place.path.parent().unwrap()).unwrap();
    let mut names: Vec<_> =
        folder.map(|file| file.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

/// What lies there after the file was removed, and its write-ahead log was not.
async fn orphan(place: &Place) {
    let journal = open(place);
    journal.submit(vec![page(&["a", "b"])]).await.unwrap();
    let wal = schema::beside(&place.path, "-wal");
    let bytes = std::fs::read(&wal).unwrap();
    journal.close();
    std::fs::remove_file(&place.path).unwrap();
    std::fs::write(wal, bytes).unwrap();
}

#[tokio::test]
async fn the_write_ahead_log_of_another_journal_is_not_played_into_a_new_one() {
    let place = place();
    orphan(&place).await;
    let clock = || Arc::new(SystemClock);
    for refused in [
        Journal::open(&place.path, &setup("ins_a"), clock()).unwrap_err(),
        Journal::open_existing(&place.path, clock()).unwrap_err(),
        Reader::open(&place.path).unwrap_err(),
        Vacancy::claim(&place.path).unwrap_err(),
        scrub(&place.path, &SystemClock, &|_, _| Kept::default()).unwrap_err(),
    ] {
        assert!(matches!(refused, Error::Orphan { .. }), "{refused:?}");
    }
    assert!(!place.path.exists());
    let wal = schema::beside(&place.path, "-wal");
    assert!(std::fs::metadata(&wal).unwrap().len() > 0, "it is left as it is");
    std::fs::remove_file(wal).unwrap();
    Vacancy::claim(&place.path).unwrap().discard().unwrap();
}

#[tokio::test]
async fn no_journal_begins_where_another_one_was() {
    let place = place();
    let journal = open(&place);
    journal.submit(vec![page(&["a", "b"])]).await.unwrap();
    journal.close();
    let elsewhere = place.path.with_extension("elsewhere");
    std::fs::rename(&place.path, &elsewhere).unwrap();
    let begin = || Journal::open(&place.path, &setup("ins_a"), Arc::new(SystemClock));
    for refused in [begin().unwrap_err(), Reader::open(&place.path).unwrap_err()] {
        let Error::Gone { entries, lock, .. } = refused else { panic!("{refused:?}") };
        assert_eq!((entries, lock), (3, schema::beside(&place.path, ".lock")));
    }
    assert!(!place.path.exists());
    // To build it anew is the way out, and it does not matter how often that is tried.
    for _ in 0..2 {
        Vacancy::claim(&place.path).unwrap().discard().unwrap();
    }
    assert!(matches!(begin().unwrap_err(), Error::Gone { .. }));
    // It came back; or somebody wants another one here.
    std::fs::rename(&elsewhere, &place.path).unwrap();
    begin().unwrap().close();
    std::fs::remove_file(&place.path).unwrap();
    std::fs::remove_file(schema::beside(&place.path, ".lock")).unwrap();
    begin().unwrap().close();
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_to_nothing_is_no_free_place() {
    let place = place();
    let to = place.path.with_extension("unmounted");
    std::os::unix::fs::symlink(&to, &place.path).unwrap();
    for refused in [
        Journal::open(&place.path, &setup("ins_a"), Arc::new(SystemClock)).unwrap_err(),
        Reader::open(&place.path).unwrap_err(),
        Vacancy::claim(&place.path).unwrap_err(),
    ] {
        let Error::Nowhere { to: found, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(found, to);
    }
    assert!(place.path.is_symlink() && !to.exists());
}

#[tokio::test]
async fn a_journal_takes_a_free_place_when_it_is_whole() {
    let place = place();
    let vacancy = Vacancy::claim(&place.path).unwrap();
    let journal = Journal::open(vacancy.made(), &setup("ins_a"), Arc::new(SystemClock)).unwrap();
    journal.submit(vec![page(&["a"])]).await.unwrap();
    // Nobody begins or builds another one meanwhile.
    for refused in [
        Journal::open(&place.path, &setup("ins_a"), Arc::new(SystemClock)).unwrap_err(),
        Vacancy::claim(&place.path).unwrap_err(),
    ] {
        assert!(matches!(refused, Error::Locked { .. }), "{refused:?}");
    }
    journal.close();
    vacancy.install().unwrap();
    let name = place.path.file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(files(&place), [name.clone(), format!("{name}.lock")]);
    assert_eq!(check_replay(&place.path, std::path::Path::new("")).unwrap().units, 1);
    let refused = Vacancy::claim(&place.path).unwrap_err();
    assert!(matches!(refused, Error::Exists(_)), "{refused:?}");
}

#[tokio::test]
async fn what_is_not_installed_is_gone() {
    let place = place();
    let make = || async {
        let vacancy = Vacancy::claim(&place.path).unwrap();
        let journal =
            Journal::open(vacancy.made(), &setup("ins_a"), Arc::new(SystemClock)).unwrap();
        journal.submit(vec![page(&["a"])]).await.unwrap();
        (vacancy, journal)
    };
    let name = place.path.file_name().unwrap().to_string_lossy().into_owned();
    let (vacancy, journal) = make().await;
    drop(journal);
    drop(vacancy);
    assert_eq!(files(&place), [format!("{name}.lock")]);
    let (vacancy, journal) = make().await;
    journal.close();
    vacancy.discard().unwrap();
    assert_eq!(files(&place), [format!("{name}.lock")]);
    // What a killed one leaves is gone with the next.
    let (vacancy, journal) = make().await;
    journal.close();
    let left = std::fs::read(vacancy.made()).unwrap();
    let made = vacancy.made().to_owned();
    drop(vacancy);
    std::fs::write(&made, left).unwrap();
    let vacancy = Vacancy::claim(&place.path).unwrap();
    assert!(!made.exists());
    // Something has come there meanwhile.
    std::fs::write(&place.path, "mine").unwrap();
    let refused = vacancy.install().unwrap_err();
    assert!(matches!(refused, Error::Exists(_)), "{refused:?}");
    assert_eq!(std::fs::read(&place.path).unwrap(), b"mine");
}

#[test]
fn what_cannot_be_removed_is_told() {
    let place = place();
    std::fs::create_dir(schema::beside(&place.path, ".rebuilt")).unwrap();
    let refused = Vacancy::claim(&place.path).unwrap_err();
    assert!(matches!(refused, Error::File { doing: "remove", .. }), "{refused:?}");
    std::fs::remove_dir(schema::beside(&place.path, ".rebuilt")).unwrap();
    let vacancy = Vacancy::claim(&place.path).unwrap();
    std::fs::create_dir(vacancy.made()).unwrap();
    let left = vacancy.discard().unwrap_err();
    assert!(matches!(left, Error::File { doing: "remove", .. }), "{left:?}");
}
