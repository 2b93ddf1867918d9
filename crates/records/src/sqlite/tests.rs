//! What another program may do to a file meanwhile.

use super::*;

fn made() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sqlite");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    (folder, path)
}

#[test]
fn a_file_that_somebody_holds_is_not_a_wrong_path() {
    let (_folder, path) = made();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let opened = File::open(&path, OpenFlags::SQLITE_OPEN_READ_ONLY, Duration::ZERO);
    let error = opened.err().unwrap();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    assert!(error.hint().contains("another program"));
}

#[tokio::test]
async fn a_lock_that_lasts_ends_the_run_and_says_so() {
    let (_folder, path) = made();
    let writer = SqliteWriter::open(&path).unwrap().inline();
    writer.0.connection.lock().unwrap().busy_timeout(Duration::ZERO).unwrap();
    let other = Connection::open(&path).unwrap();
    let insert = || vec![Statement::new("INSERT INTO t VALUES (1)")];
    let locked = |answer| match answer {
        Written::NotSent { halt, .. } => halt,
        other => panic!("{other:?}"),
    };
    for _ in 0..2 {
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        for _ in 1..BUSY_WRITES {
            assert!(locked(writer.write(insert()).await).is_none(), "it may pass");
        }
        other.execute_batch("ROLLBACK").unwrap();
        assert!(matches!(writer.write(insert()).await, Written::Done { changes: 1 }));
    }
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 1..BUSY_WRITES {
        let _passes = writer.write(insert()).await;
    }
    let halt = locked(writer.write(insert()).await).unwrap();
    let Halt::Remote { message, hint, .. } = &halt else { panic!("{halt}") };
    assert!(message.contains("another program") && !hint.contains("network"), "{halt}");
}
