//! Files have their mode under any umask.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use holdfast::definition::Name;
use holdfast::queue::{Caller, Queue};
use holdfast::state::lock::DaemonLock;
use holdfast::state::undo::{Step, Undo};
use holdfast::state::{Database, durable, identity};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::victim::{command, given, say, wait_for_release};

#[tokio::test]
#[ignore = "the victim of the test below"]
async fn victim() {
    let (dir, _) = given();
    let state = dir.join("state");
    let _lock = DaemonLock::take(&state).unwrap();
    let (db, opened) = Database::open(&state, Timestamp::now()).unwrap();
    db.set_meta("a", "b").await.unwrap();
    identity(&state, &Name::parse("a1").unwrap(), None).unwrap();
    durable::write(&state.join("shown"), 0o644, b"x").unwrap();
    Undo::begin(&state.join("undo"), "j1")
        .unwrap()
        .push(Step::RemoveDir { path: "/a".into() })
        .await
        .unwrap();
    let caller = Caller { label: "test".into(), cancel: CancellationToken::new() };
    let _share = Queue::new(1, state.join("locks")).share("id", "b2", &caller, |_| {}).await.unwrap();
    say(&opened.to_string());
    wait_for_release();
}

fn modes(dir: &Path, of: &mut Vec<(String, u32)>) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
        of.push((entry.file_name().into_string().unwrap(), mode));
        if entry.file_type().unwrap().is_dir() {
            modes(&entry.path(), of);
        }
    }
}

#[test]
fn files_have_their_mode_under_any_umask() {
    for umask in ["0000", "0022", "0777"] {
        let dir = tempfile::tempdir().unwrap();
        let script = format!("umask {umask}; exec \"$@\"");
        let wrapper = ["sh", "-c", &script, "sh"];
        let mut child = command(&wrapper, "modes::victim", dir.path(), "").spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        let said = lines.by_ref().map(Result::unwrap).find_map(|line| crate::victim::said(&line));
        assert_eq!(said.as_deref(), Some("begun"), "umask {umask}");
        let mut found = Vec::new();
        modes(dir.path(), &mut found);
        drop(child.stdin.take());
        lines.for_each(drop);
        assert!(child.wait().unwrap().success());
        found.sort();
        let private = |name: &str| (name.to_owned(), 0o600);
        let dir = |name: &str| (name.to_owned(), 0o700);
        let expected = [
            private("a1"),
            private("daemon"),
            private("gate-id"),
            private("holdfast.db"),
            private("holdfast.db-shm"),
            private("holdfast.db-wal"),
            dir("instances"),
            private("j1.undo"),
            dir("locks"),
            private("repository-id"),
            ("shown".to_owned(), 0o644),
            dir("state"),
            dir("undo"),
        ];
        assert_eq!(found, expected, "umask {umask}");
    }
}
