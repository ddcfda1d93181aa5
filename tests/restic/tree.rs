//! The tree of links that an instance's includes become: what restic makes of it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use holdfast::restic::{BackupRequest, RestoreRequest};

use crate::each_restic;

each_restic!(a_tree_of_links_is_stored_as_plain_directories, |lab| {
    let lab = lab.initialised().await;
    lab.write("real/volume/sub/deep", b"deep");
    lab.write("real/volume/top", b"top");
    fs::set_permissions(lab.path("real/volume"), fs::Permissions::from_mode(0o750)).unwrap();
    lab.write("real/state/environment", b"A=1\n");
    fs::create_dir_all(lab.path("tree/volumes")).unwrap();
    symlink(lab.path("real/volume"), lab.path("tree/volumes/data")).unwrap();
    symlink(lab.path("real/state"), lab.path("tree/state")).unwrap();
    let names = ["volumes/data/sub", "volumes/data/top", "state/environment"];
    let first = lab.backup(&names).await.unwrap();

    let mut found = Vec::new();
    lab.restic
        .ls(&lab.access, &first.snapshot_id, &lab.terms, |e| {
            found.push((e.path, e.kind, e.mode & 0o777, e.uid))
        })
        .await
        .unwrap();
    let uid = fs::metadata(lab.path("real/volume")).unwrap().uid();
    let of = |path: &str| found.iter().find(|f| f.0 == path).unwrap().clone();
    assert_eq!(
        of("/volumes/data"),
        ("/volumes/data".into(), "dir".into(), 0o750, uid),
        "the real place's mode"
    );
    assert_eq!(of("/state").1, "dir");
    assert_eq!(found.iter().filter(|f| f.1 == "file").count(), 3);

    // One more child: the list of paths differs, so only an explicit parent is found.
    lab.write("real/volume/new", b"new");
    let names = ["volumes/data/sub", "volumes/data/top", "volumes/data/new", "state/environment"];
    let request = BackupRequest { parent: Some(first.snapshot_id.clone()), ..lab.request(&names) };
    let second = lab.restic.backup(&lab.access, &request, &lab.terms, |_| ()).await.unwrap();
    assert_eq!((second.files_new, second.files_unmodified), (1, 3));

    let request = RestoreRequest {
        snapshot: second.snapshot_id,
        target: lab.path("out"),
        includes: vec!["volumes/data".into()],
        verify: true,
        over: false,
    };
    lab.restic.restore(&lab.access, &request, &lab.terms, |_| ()).await.unwrap();
    assert_eq!(fs::read_dir(lab.path("out/volumes/data")).unwrap().count(), 3);
    assert_eq!(fs::read(lab.path("out/volumes/data/sub/deep")).unwrap(), b"deep");
    assert!(!lab.path("out/state").exists());
});

each_restic!(a_link_that_is_itself_named_is_stored_as_a_link, |lab| {
    let lab = lab.initialised().await;
    lab.write("real/x", b"x");
    symlink(lab.path("real"), lab.path("tree/link")).unwrap();
    let made = lab.backup(&["link"]).await.unwrap();
    let mut kinds = Vec::new();
    lab.restic
        .ls(&lab.access, &made.snapshot_id, &lab.terms, |e| kinds.push((e.path, e.kind)))
        .await
        .unwrap();
    assert_eq!(kinds, [("/link".to_owned(), "symlink".to_owned())]);
});
