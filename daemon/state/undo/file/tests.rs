use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn remove(path: &str) -> Step {
    Step::RemoveDir { path: path.into() }
}

fn left(dir: &Path) -> Vec<(usize, Recorded)> {
    let pending = pending(dir).unwrap();
    assert_eq!(pending.len(), 1);
    pending[0].steps.clone()
}

#[tokio::test]
async fn steps_are_found_again_last_first_without_those_that_are_done() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("undo");
    let undo = Undo::begin(&dir, "j1").unwrap();
    assert!(!dir.exists(), "a job without steps must not write");
    let unlock = Step::Unlock { repository: "b2".into(), location: "m/u".into() };
    let hook = Step::RunHook { instance: "i".into(), backup: "b".into(), hook: "cleanup".into() };
    let odd = PathBuf::from(OsString::from_vec(b"/srv/\xff\xfe\n".to_vec()));
    let swap = Step::SwapBack { instance: "i".into(), live: odd, aside: "/a".into(), inode: Some(7) };
    for (index, step) in [&unlock, &hook, &swap].into_iter().enumerate() {
        assert_eq!(undo.push(step.clone()).await.unwrap(), index);
    }
    undo.done(1).await.unwrap();
    assert!(undo.done(3).await.is_err());
    assert_eq!(left(&dir), [(2, Recorded::Known(swap)), (0, Recorded::Known(unlock))]);
    let mode = fs::metadata(dir.join("j1.undo")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    undo.finish().await.unwrap();
    assert_eq!(pending(&dir).unwrap(), []);
}

#[tokio::test]
async fn a_torn_last_line_is_no_step_and_harms_no_later_one() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let undo = Undo::begin(dir, "j1").unwrap();
    undo.push(remove("/a")).await.unwrap();
    let whole = fs::read(dir.join("j1.undo")).unwrap();
    undo.push(remove("/b")).await.unwrap();
    let both = fs::read(dir.join("j1.undo")).unwrap();
    for cut in 0..both.len() {
        fs::write(dir.join("j1.undo"), &both[..cut]).unwrap();
        let expected: &[_] = if cut < whole.len() { &[] } else { &[(0, Recorded::Known(remove("/a")))] };
        assert_eq!(left(dir), expected, "cut at {cut}");
        let resumed = Undo::resume(dir, "j1").unwrap();
        let index = resumed.push(remove("/c")).await.unwrap();
        assert_eq!(left(dir)[0], (index, Recorded::Known(remove("/c"))), "cut at {cut}");
        assert_eq!(left(dir).len(), expected.len() + 1, "cut at {cut}");
    }
}

#[tokio::test]
async fn steps_of_a_newer_version_and_damaged_lines_are_kept_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let text = concat!(
        "{\"step\":{\"kind\":\"start_service\",\"unit\":\"a\"}}\n",
        "{\"step\":{\"kind\":\"remove_dir\",\"path\":\"/a\",\"but\":1}}\n",
        "\u{0}\u{0}garbage\n",
        "{\"step\":{\"kind\":\"remove_dir\",\"path\":\"/b\"}}\n",
    );
    fs::write(dir.join("j1.undo"), text).unwrap();
    fs::write(dir.join("j1.undo~"), "not ours").unwrap();
    let found = pending(dir).unwrap();
    assert_eq!(found[0].steps[0], (3, Recorded::Known(remove("/b"))));
    assert_eq!(found[0].steps.len(), 4);
    assert_eq!(found[0].problems.len(), 3);
    assert!(found[0].problems.iter().any(|p| p.contains("start_service")), "{:?}", found[0].problems);
    Undo::resume(dir, "j1").unwrap().done(3).await.unwrap();
    assert!(fs::read_to_string(dir.join("j1.undo")).unwrap().starts_with(text), "the old steps were changed");
    assert_eq!(left(dir).len(), 3);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_hides_no_other() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("j0.undo")).unwrap();
    Undo::begin(dir.path(), "j1").unwrap().push(remove("/a")).await.unwrap();
    let found = pending(dir.path()).unwrap();
    assert!(found[0].problems[0].contains("j0.undo"), "{found:?}");
    assert_eq!(found[1].steps.len(), 1);
}

#[tokio::test]
async fn a_step_that_cannot_be_written_is_an_error_and_the_next_one_stands_whole() {
    let dir = tempfile::tempdir().unwrap();
    let undo_dir = dir.path().join("undo");
    fs::write(&undo_dir, "in the way").unwrap();
    let undo = Undo::begin(&undo_dir, "j1").unwrap();
    let error = format!("{:#}", undo.push(remove("/a")).await.unwrap_err());
    assert!(error.contains("undo"), "{error}");
    fs::remove_file(&undo_dir).unwrap();
    assert_eq!(undo.push(remove("/a")).await.unwrap(), 0);
    assert_eq!(left(&undo_dir).len(), 1);
}

#[test]
fn an_id_that_leaves_the_directory_is_refused_and_so_is_a_job_with_old_steps() {
    let dir = tempfile::tempdir().unwrap();
    for bad in ["", "../x", "a/b", ".", "..", "a\0"] {
        assert!(Undo::begin(dir.path(), bad).is_err(), "{bad:?}");
    }
    fs::write(dir.path().join("j1.undo"), "").unwrap();
    assert!(Undo::begin(dir.path(), "j1").is_err());
    assert!(Undo::resume(dir.path(), "j2").is_err());
}
