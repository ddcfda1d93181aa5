//! Backups of another machine.

use crate::director::Director;
use crate::far::{director, files, saved};
use crate::host::Host;
use crate::lab::ask::{print_downtime, seconds};
use crate::lab::{Lab, names};
use crate::servers::good;

#[tokio::test(flavor = "multi_thread")]
async fn a_director_is_stopped_dumped_mirrored_and_started_before_restic_reads() {
    let far = Director::start();
    let lab = director(&far).start().await;
    lab.on("backup", &format!("cp '{}' \"$D/did-then\"", far.host.path("did").display()));
    let down = lab.good_backup("b").await.units[0].downtime;
    assert!(far.all_run(), "{}", lab.daemon.log());
    print_parts(&lab, down);
    let did = far.did();
    let at =
        |what: &str| did.iter().position(|line| line == what).unwrap_or_else(|| panic!("{what}: {did:?}"));
    assert!(at("stop director") < at("stop postgres") && at("stop agent") < at("start agent"), "{did:?}");
    assert_eq!(
        did.iter().filter(|line| *line == "start postgres").count(),
        2,
        "for the dump, and again: {did:?}"
    );
    assert!(at("stop agent") < at("start director"), "{did:?}");
    assert!(lab.text("did-then").contains("start director"), "restic reads when all runs again");
    let store = far.host.path("store").display().to_string();
    assert_eq!(saved(&lab, &format!("/files{store}/blobstore/store/0a/blob-1")), "a compiled package");
    assert_eq!(
        saved(&lab, &format!("/local{}/yml/micro_bosh.yml", lab.path("").display()).replace("//", "/")),
        "name: micro"
    );
    let listed = good(lab.restic("repo", &["ls", "latest"]));
    assert!(!listed.contains("scratch") && listed.contains("dumps/postgresql/bosh.dump"), "{listed}");
    let log = saved(&lab, "/job.log");
    for told in [
        "stopped monit: ",
        "postgres",
        "command: agent",
        "dump postgresql: 2 files",
        "mirrored ",
        "all that ran before runs",
    ] {
        assert!(log.contains(told), "{told}: {log}");
    }
    lab.assert_settled().await;
}

/// For how long the director was down, beside the time of its dump and its mirror.
fn print_parts(lab: &Lab, down: u64) {
    let log = lab.daemon.log();
    let [dumped, mirrored] = ["then dumps took ", "mirrored "].map(|before| {
        let (_, told) = log.rsplit_once(before).expect("the journal says where the time went");
        told.split([' ', ':']).find(|word| word.starts_with(char::is_numeric)).unwrap().to_owned()
    });
    let row = format!("down {} | dumps {dumped} s | mirror {mirrored}", seconds(down));
    print_downtime("over ssh", &row);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mirror_follows_and_unchanged_files_are_not_read_again() {
    let host = Host::start();
    let lab = files(&host).start().await;
    lab.good_backup("b").await;
    std::fs::remove_file(host.path("store/one")).unwrap();
    host.write("store/three", "three\n", 0o644);
    let ended = lab.good_backup("b").await;
    let listed = good(lab.restic("repo", &["ls", "latest"]));
    assert!(listed.contains("store/three") && !listed.contains("store/one"), "{listed}");
    assert!(!listed.contains("scratch"), "{listed}");
    let sets = lab.sets("app").await;
    assert_eq!(sets.len(), 2, "{ended:?}");
    let calls = lab.text("calls");
    let last = calls.lines().rfind(|line| line.starts_with("backup")).unwrap();
    assert!(last.contains("--parent"), "{last}");
    assert_eq!(names(&lab.path("cache/remote/app")).len(), 2, "the mirror and its rules");
    lab.assert_settled().await;
}
