//! Backups of another machine that do not fit into the cache.

use crate::far::served;
use crate::host::Host;
use crate::lab::{Lab, names};
use crate::support::mount::Mount;

/// The disk is full: services run again, there is no set, and the disk is named.
async fn refused(host: &Host, lab: &Lab, disk: &str) {
    let ended = lab.backup("b").await;
    let what = format!("{ended:?}\n{}", lab.daemon.log());
    assert_eq!(ended.outcome, "failed", "{what}");
    for word in ["the disk of the cache is full", disk, "make room there", "no snapshot was taken"] {
        assert!(ended.units[0].error.contains(word), "{word}: {what}");
    }
    assert!(host.path("running-web").exists() && host.path("running-db").exists(), "{what}");
    assert!(host.text("did").contains("stop web") && host.text("did").contains("start web"), "{what}");
    assert_eq!((lab.sets("app").await.len(), lab.snapshots_in("repo")), (0, 0), "{what}");
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rsync_that_meets_a_full_disk_is_told_and_the_next_run_goes_on() {
    let host = Host::start();
    let mut setup = served(&host);
    let rsync = "#!/bin/sh\n[ ! -e '@DIR@/full' ] || {\n\
        echo 'rsync: [receiver] write failed on \"x\": No space left on device (28)' >&2\n\
        echo 'rsync error: error in file IO (code 11) at receiver.c(381) [receiver=3.2.7]' >&2\nexit 11\n}\n\
        PATH=/usr/bin:/bin exec rsync \"$@\"\n";
    let bin = setup.write("bin/rsync", rsync, 0o755).parent().unwrap().display().to_string();
    setup.environment.push(("PATH".into(), format!("{bin}:{}", std::env::var("PATH").unwrap())));
    setup.write("full", "", 0o644);
    let cache = setup.path("cache/remote/app").display().to_string();
    let lab = setup.start().await;
    refused(&host, &lab, &cache).await;
    lab.remove("full");
    lab.good_backup("b").await;
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: it mounts a small file system"]
async fn system_a_mirror_that_does_not_fit_leaves_services_running_and_the_disk_named() {
    let host = Host::start();
    host.write("store/large", &"x".repeat(1 << 20), 0o600);
    let setup = served(&host);
    let disk = Mount::tmpfs(setup.path("cache/remote"), "size=256k,mode=0700");
    let shown = disk.0.display().to_string();
    let lab = setup.start().await;
    refused(&host, &lab, &format!("lies on {shown}, where ")).await;
    // Not even its rules may fit now.
    refused(&host, &lab, &shown).await;
    resize(&disk, "size=16m");
    lab.good_backup("b").await;
    assert_eq!(names(&lab.path("cache/remote/app")).len(), 2, "the mirror and its rules");
    lab.assert_settled().await;
    drop(disk);
}

#[expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]
fn resize(disk: &Mount, options: &str) {
    let mut mount = std::process::Command::new("mount");
    let done = mount.args(["-o", &format!("remount,{options}")]).arg(&disk.0).status().unwrap();
    assert!(done.success());
}
