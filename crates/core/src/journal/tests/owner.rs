//! Who writes to a journal is written in it, as long as somebody does; and nobody else may read it.

use super::*;

#[test]
fn the_owner_is_named_while_a_run_is_on_and_gone_when_it_has_ended() {
    for writing in [Writing::Thread, Writing::Inline(Arc::new(Open))] {
        let place = place();
        let clock = Arc::new(SystemClock);
        let journal =
            Journal::open_with(&place.path, &setup("ins_a"), clock, writing.clone()).unwrap();
        let owner = journal.reader().unwrap().owner().unwrap().unwrap();
        assert_eq!(owner.pid, std::process::id());
        #[cfg(target_os = "linux")]
        {
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
            assert_eq!(owner.host, name.trim());
        }
        journal.close();
        let after = Reader::open(&place.path).unwrap().owner().unwrap();
        assert_eq!(after, None, "{writing:?}");
    }
}

#[cfg(unix)]
#[test]
fn another_name_for_the_same_journal_has_the_same_lock() {
    let place = place();
    let clock = || Arc::new(SystemClock);
    let journal = Journal::open(&place.path, &setup("ins_a"), clock()).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("link.journal");
    std::os::unix::fs::symlink(&place.path, &link).unwrap();
    assert!(crate::journal::is_running(&link));
    let second = Journal::open(&link, &setup("ins_a"), clock()).unwrap_err();
    assert!(matches!(second, Error::Locked { .. }), "{second}");
    journal.close();
    Journal::open(&link, &setup("ins_a"), clock()).unwrap().close();
    assert!(!elsewhere.path().join("link.journal.lock").exists());
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = place();
    let journal = open(&place);
    journal.submit(vec![page(&["a"])]).await.unwrap();
    let folder = place.path.parent().unwrap();
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.path());
    }
    journal.close();
    // Somebody has let others read it.
    std::fs::set_permissions(&place.path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let journal = open(&place);
    let mode = std::fs::metadata(journal.path()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "it is private again");
}

#[cfg(unix)]
#[tokio::test]
async fn what_a_reader_left_beside_a_read_only_journal_stands_in_nobodys_way() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let place = place();
    let journal = open(&place);
    journal.submit(vec![page(&["a"])]).await.unwrap();
    journal.close();
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("link.journal");
    symlink(&place.path, &link).unwrap();
    let sides = ["-wal", "-shm"].map(|suffix| schema::beside(&place.path, suffix));
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path).map(|file| file.permissions().mode() & 0o777).ok()
    };
    let chmod = |bits| {
        let bits = std::fs::Permissions::from_mode(bits);
        std::fs::set_permissions(&place.path, bits).unwrap();
    };
    for (name, key) in [(&place.path, "b"), (&link, "c")] {
        chmod(0o444);
        let _counts = Reader::open(&place.path).unwrap().counts().unwrap();
        assert_eq!(sides.each_ref().map(|side| mode(side)), [Some(0o444); 2], "left by the reader");
        chmod(0o600);
        let journal = Journal::open(name, &setup("ins_a"), Arc::new(SystemClock)).unwrap();
        journal.submit(vec![page(&[key])]).await.unwrap();
        assert_eq!(sides.each_ref().map(|side| mode(side)), [Some(0o600); 2]);
        journal.close();
    }
    // Nobody else's mode is widened, and a journal that must not be written stays so.
    chmod(0o444);
    let refused = Journal::open(&place.path, &setup("ins_a"), Arc::new(SystemClock)).unwrap_err();
    assert!(matches!(refused, Error::ReadOnly(_)), "{refused:?}");
    assert_eq!(mode(&place.path), Some(0o444));
}
