//! What goes in comes out, and every subcommand says what it did.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use holdfast::restic::{Error, RestoreRequest, same_snapshot};
use jiff::Timestamp;

use crate::each_restic;

each_restic!(a_backup_is_listed_restored_and_forgotten, |lab| {
    let lab = lab.initialised().await;
    lab.write("tree/state/a", b"12345");
    let mut seen = Vec::new();
    let time: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    let request = holdfast::restic::BackupRequest { time: Some(time), ..lab.request(&["state", "hello"]) };
    let made = lab.restic.backup(&lab.access, &request, &lab.terms, |p| seen.push(p)).await.unwrap();
    assert_eq!((made.total_files_processed, made.total_bytes_processed, made.partial), (2, 10, false));
    assert_eq!(made.snapshot_id.len(), 64, "a whole id, also from 0.14");

    let listed = lab.restic.snapshots(&lab.access, &["holdfast", "set=j1"], &lab.terms).await.unwrap();
    assert_eq!((listed.list.len(), listed.unreadable.len()), (1, 0));
    let snapshot = &listed.list[0];
    assert_eq!(
        (&snapshot.id, snapshot.time, snapshot.hostname.as_str()),
        (&made.snapshot_id, time, "testhost")
    );
    assert_eq!(snapshot.tags, ["holdfast", "set=j1"]);
    assert!(same_snapshot(&snapshot.id, &made.snapshot_id[..8]));
    let other = lab.restic.snapshots(&lab.access, &["holdfast", "set=j2"], &lab.terms).await.unwrap();
    assert!(other.list.is_empty());

    let stats = lab.restic.stats(&lab.access, &made.snapshot_id, &lab.terms).await.unwrap();
    assert_eq!((stats.bytes, stats.entries), (10, 3));
    let content = lab.restic.dump(&lab.access, &made.snapshot_id, "state/a", 100, &lab.terms).await.unwrap();
    assert_eq!(content, b"12345");
    let mut paths = Vec::new();
    lab.restic
        .ls(&lab.access, &made.snapshot_id, &lab.terms, |e| paths.push((e.path, e.size)))
        .await
        .unwrap();
    assert_eq!(paths, [("/hello".into(), 5), ("/state".into(), 0), ("/state/a".into(), 5)]);

    let request = RestoreRequest {
        snapshot: made.snapshot_id.clone(),
        target: lab.path("out"),
        includes: vec![],
        verify: true,
        over: false,
    };
    lab.restic.restore(&lab.access, &request, &lab.terms, |_| ()).await.unwrap();
    assert_eq!(names_in(&lab.path("out")), ["hello", "state", "state/a"]);
    assert_eq!(fs::read(lab.path("out/state/a")).unwrap(), b"12345");

    lab.restic.check(&lab.access, Some("all"), &lab.terms).await.unwrap();
    lab.restic.forget(&lab.access, &[&made.snapshot_id], &lab.terms).await.unwrap();
    lab.restic.forget(&lab.access, &[&made.snapshot_id], &lab.terms).await.unwrap();
    lab.restic.prune(&lab.access, "0", &lab.terms).await.unwrap();
    assert!(lab.restic.snapshots(&lab.access, &[], &lab.terms).await.unwrap().list.is_empty());
    assert!(lab.locks().is_empty());
});

each_restic!(odd_names_are_taken_literally, |lab| {
    let lab = lab.initialised().await;
    let odd = "state/a*b?[c]\\d $HOME #x";
    lab.write(&format!("tree/{odd}"), b"odd");
    lab.write("tree/state/aXbYcZd", b"no");
    lab.write("tree/state/-n", b"dash");
    let made = lab.backup(&["state"]).await.unwrap();
    let request = RestoreRequest {
        snapshot: made.snapshot_id,
        target: lab.path("out"),
        includes: vec![odd.into(), "/state/-n".into(), "state/none".into()],
        verify: true,
        over: false,
    };
    lab.restic.restore(&lab.access, &request, &lab.terms, |_| ()).await.unwrap();
    assert_eq!(names_in(&lab.path("out")), ["state", "state/-n", odd]);
    assert_eq!(fs::read(lab.path("out").join(odd)).unwrap(), b"odd");
});

each_restic!(a_restore_that_matches_nothing_makes_nothing, |lab| {
    let lab = lab.initialised().await;
    let made = lab.backup(&["hello"]).await.unwrap();
    let request = RestoreRequest {
        snapshot: made.snapshot_id,
        target: lab.path("out"),
        includes: vec!["volumes/none".into()],
        verify: true,
        over: false,
    };
    lab.restic.restore(&lab.access, &request, &lab.terms, |_| ()).await.unwrap();
    assert!(names_in(&lab.path("out")).is_empty());
});

each_restic!(unknown_snapshots_are_told, |lab| {
    let lab = lab.initialised().await;
    let id = "0123456789abcdef";
    let request = RestoreRequest {
        snapshot: id.into(),
        target: lab.path("out"),
        includes: vec![],
        verify: false,
        over: false,
    };
    let errors = [
        lab.restic.restore(&lab.access, &request, &lab.terms, |_| ()).await.unwrap_err(),
        lab.restic.stats(&lab.access, id, &lab.terms).await.unwrap_err(),
        lab.restic.ls(&lab.access, id, &lab.terms, |_| ()).await.unwrap_err(),
        lab.restic.dump(&lab.access, id, "x", 10, &lab.terms).await.unwrap_err(),
        lab.restic.forget(&lab.access, &["latest"], &lab.terms).await.unwrap_err(),
        lab.restic.dump(&lab.access, "--help--", "x", 10, &lab.terms).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, Error::NoSnapshot(_)) && !error.retryable(), "{error:?}");
    }
    let made = lab.backup(&["hello"]).await.unwrap();
    let error = lab.restic.dump(&lab.access, &made.snapshot_id, "none", 10, &lab.terms).await.unwrap_err();
    assert!(matches!(error, Error::NoSnapshot(_)), "{error:?}");
    let error = lab.restic.dump(&lab.access, &made.snapshot_id, "hello", 3, &lab.terms).await.unwrap_err();
    assert!(error.to_string().contains("more than 3 bytes"), "{error:?}");
});

each_restic!(a_parent_that_is_gone_is_no_failure, |lab| {
    let lab = lab.initialised().await;
    let request = holdfast::restic::BackupRequest {
        parent: Some("0123456789abcdef".into()),
        ..lab.request(&["hello"])
    };
    let made = lab.restic.backup(&lab.access, &request, &lab.terms, |_| ()).await.unwrap();
    assert_eq!(made.files_new, 1);
});

each_restic!(a_tag_with_a_comma_is_refused, |lab| {
    let request = holdfast::restic::BackupRequest { tags: vec!["a,b".into()], ..lab.request(&["hello"]) };
    let error = lab.restic.backup(&lab.access, &request, &lab.terms, |_| ()).await.unwrap_err();
    assert!(matches!(error, Error::Unusable(_)), "{error:?}");
});

each_restic!(progress_and_excludes_work, |lab| {
    let lab = lab.initialised().await;
    lab.write("tree/data/cache/x", b"x");
    lab.write("excludes", b"/data/cache/*\ndata/cache/*\n");
    let mut request = lab.request(&["data"]);
    request.exclude_file = Some(lab.path("excludes"));
    let mut best = 0;
    // restic tells twice a second: whoever is faster hears nothing, so there is more until something is heard.
    for mebibytes in [30, 120, 480, 1920] {
        lab.write_noise("tree/data/big", mebibytes);
        let heard = |p: holdfast::restic::Progress| best = best.max(p.bytes_total);
        let made = lab.restic.backup(&lab.access, &request, &lab.terms, heard).await.unwrap();
        assert_eq!(made.total_files_processed, 1);
        if best > 0 {
            return;
        }
    }
    panic!("no progress was heard");
});

each_restic!(what_cannot_be_read_is_named_and_the_rest_is_saved, |lab| {
    let lab = lab.initialised().await;
    // Unreadable even for root: an address space that ends before its file does.
    lab.write("tree/data/ok", b"ok");
    let request = holdfast::restic::BackupRequest {
        dir: "/".into(),
        ..lab.request(&[lab.path("tree/data").to_str().unwrap(), "proc/self/mem"])
    };
    let made = lab.restic.backup(&lab.access, &request, &lab.terms, |_| ()).await.unwrap();
    assert!(made.partial && made.unreadable.iter().any(|p| p.ends_with("/mem")), "{made:?}");
    assert_eq!(made.total_files_processed, 1);
});

each_restic!(what_is_named_but_missing_is_told, |lab| {
    let lab = lab.initialised().await;
    let made = lab.backup(&["hello", "gone/x"]).await.unwrap();
    assert_eq!((made.missing, made.total_files_processed), (vec!["gone/x".to_owned()], 1));
    let error = lab.backup(&["gone/x"]).await.unwrap_err();
    assert!(matches!(error, Error::NothingToBackUp), "{error:?}");
    let error = lab.backup(&[]).await.unwrap_err();
    assert!(matches!(error, Error::NothingToBackUp), "{error:?}");
});

each_restic!(owners_and_modes_come_back, |lab| {
    let lab = lab.initialised().await;
    lab.write("tree/state/script", b"x");
    fs::set_permissions(lab.path("tree/state/script"), fs::Permissions::from_mode(0o4750)).unwrap();
    let made = lab.backup(&["state"]).await.unwrap();
    let request = RestoreRequest {
        snapshot: made.snapshot_id,
        target: lab.path("out"),
        includes: vec![],
        verify: true,
        over: false,
    };
    lab.restic.restore(&lab.access, &request, &lab.terms, |_| ()).await.unwrap();
    let mode = fs::metadata(lab.path("out/state/script")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o4750);
});

each_restic!(any_command_can_be_run_by_hand, |lab| {
    let lab = lab.initialised().await;
    let code = lab.restic.raw(&lab.access, vec!["version".into()], &lab.terms).await.unwrap();
    assert_eq!(code, 0);
    let code = lab.restic.raw(&lab.access, vec!["no-such-command".into()], &lab.terms).await.unwrap();
    assert_ne!(code, 0);
});

each_restic!(a_snapshot_passes_as_one_whole_archive, |lab| {
    let lab = lab.initialised().await;
    lab.write("tree/state/a", &vec![7; 100_000]);
    lab.write("tree/state/ünicode and space", b"x");
    std::os::unix::fs::symlink("a", lab.path("tree/state/link")).unwrap();
    let request = lab.request(&["state", "hello"]);
    let made = lab.restic.backup(&lab.access, &request, &lab.terms, |_| ()).await.unwrap();
    let (mut listed, mut bytes) = (0, Vec::new());
    lab.restic.ls(&lab.access, &made.snapshot_id, &lab.terms, |_| listed += 1).await.unwrap();
    let sink = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    let passed = lab.restic.archive(&lab.access, &made.snapshot_id, &lab.terms, sink).await.unwrap();
    assert_eq!((passed.entries, passed.bytes), (listed, bytes.len() as u64));
    assert!(lab.locks().is_empty());
    let full = |_: &[u8]| Err(std::io::Error::from(std::io::ErrorKind::StorageFull));
    let refused = lab.restic.archive(&lab.access, &made.snapshot_id, &lab.terms, full).await;
    assert!(matches!(refused, Err(Error::File { .. })), "{refused:?}");
    let none = lab.restic.archive(&lab.access, &"0".repeat(64), &lab.terms, |_| Ok(())).await;
    assert!(none.is_err(), "{none:?}");
});

/// Everything below a directory, sorted; nothing where it is not there.
fn names_in(dir: &std::path::Path) -> Vec<String> {
    let (mut names, mut todo) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            names.push(path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned());
            if path.is_dir() {
                todo.push(path);
            }
        }
    }
    names.sort();
    names
}
