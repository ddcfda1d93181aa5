//! A microBOSH director as its operator lives with it: made reachable, backed up, damaged, restored, exported. All of it by
//! the commands that a person types.
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

use std::process::{Command, Output, Stdio};

use crate::director::{Director, SERVICES};
use crate::far;
use crate::lab::{Lab, Setup};
use crate::servers::good;
use crate::support::{stderr, stdout, until};

/// Runs `holdfast` as root would.
pub(crate) fn holdfast(lab: &Lab, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.env("HOLDFAST_BUS", &lab.bus.address).env("HOLDFAST_CONFIG", lab.path("config"));
    command.env("HOLDFAST_STATE", lab.path("state")).env("HOLDFAST_CACHE", lab.path("cache"));
    command.env("HOME", &lab.dir).stdin(Stdio::null()).args(arguments).output().unwrap()
}

#[track_caller]
pub(crate) fn ends_with_0(lab: &Lab, arguments: &[&str]) -> String {
    let done = holdfast(lab, arguments);
    let said = stdout(&done) + &stderr(&done);
    assert_eq!(done.status.code(), Some(0), "{arguments:?}: {said}\n{}", lab.daemon.log());
    said
}

/// A director that nobody has been to yet.
fn unknown(director: &Director) -> Setup {
    let setup = far::director(director).replace("stop_timeout", "require_healthy = true\nstop_timeout");
    std::fs::remove_dir_all(setup.path("state/ssh")).unwrap();
    setup
}

fn damage(director: &Director) {
    let host = &director.host;
    director.ask("bosh", "delete from vms; create table leftover (id int)");
    host.write("store/blobstore/store/0a/blob-1", "damaged\n", 0o600);
    host.write("store/blobstore/store/0a/blob-9", "newer than the set\n", 0o600);
    std::fs::remove_file(host.path("store/blobstore/store/ff/blob-2")).unwrap();
    std::fs::remove_file(host.path("store/blobstore/store/latest")).unwrap();
    host.write("store/director/tmp/scratch", "live\n", 0o644);
}

#[track_caller]
fn assert_data(director: &Director, lab: &Lab) {
    let host = &director.host;
    let log = lab.daemon.log();
    assert_eq!(director.ask("bosh", "select name from vms"), "router/0", "{log}");
    assert_eq!(
        director.ask("bosh", "select count(*) from pg_tables where tablename = 'leftover'"),
        "0",
        "{log}"
    );
    assert_eq!(host.text("store/blobstore/store/0a/blob-1"), "a compiled package\n", "{log}");
    assert_eq!(host.text("store/blobstore/store/latest"), "a compiled package\n", "{log}");
    assert_eq!(host.text("store/blobstore/store/ff/blob-2"), "another one\n", "{log}");
    assert!(!host.path("store/blobstore/store/0a/blob-9").exists(), "{log}");
    assert_eq!(host.text("store/director/tmp/scratch"), "live\n", "what is excluded stays\n{log}");
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(host.path(name)).unwrap().permissions().mode() & 0o7777
    };
    assert_eq!(
        (mode("store/blobstore/store/0a/blob-1"), mode("store/blobstore/store/ff/blob-2")),
        (0o640, 0o600)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_director_is_set_up_backed_up_restored_and_exported() {
    let director = Director::start();
    let host = &director.host;
    let lab = unknown(&director).start().await;
    // Nobody knows the host: nothing is touched.
    let refused = holdfast(&lab, &["run", "b"]);
    let said = stdout(&refused) + &stderr(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("holdfast setup"), "{said}");
    assert_eq!((director.did(), host.calls().len()), (Vec::new(), 0));
    let (print, identity) = (host.fingerprint(), host.identity().display().to_string());
    ends_with_0(&lab, &["setup", "app", "--host-key", &print, "--identity", &identity]);
    ends_with_0(&lab, &["run", "b"]);
    assert!(director.all_run(), "{}", lab.daemon.log());
    in_order(&director.did());
    exported(&lab);

    damage(&director);
    director.forget();
    ends_with_0(&lab, &["restore", "app", "--yes"]);
    assert_data(&director, &lab);
    until("all run again", || director.all_run());
    let did = director.did();
    assert!(
        did.iter().any(|line| line == "stop agent") && did.iter().any(|line| line == "start agent"),
        "{did:?}"
    );
    lab.assert_settled().await;
}

/// All is stopped, PostgreSQL alone runs for its dump, then the agent stops; and all comes back, the agent first.
fn in_order(did: &[String]) {
    let at =
        |line: &str| did.iter().position(|one| one == line).unwrap_or_else(|| panic!("no {line}: {did:?}"));
    let last =
        |line: &str| did.iter().rposition(|one| one == line).unwrap_or_else(|| panic!("no {line}: {did:?}"));
    assert!(at("stop director") < at("stop postgres"), "{did:?}");
    for service in SERVICES {
        assert!(at(&format!("stop {service}")) < at("start postgres"), "{did:?}");
        assert!(last("start agent") < last(&format!("start {service}")), "{did:?}");
    }
    assert!(
        last("stop postgres") > at("start postgres"),
        "PostgreSQL does not run while files are copied: {did:?}"
    );
    assert!(last("start postgres") > at("stop agent"), "{did:?}");
}

/// The archive that an operator puts on a shelf: files, dump, what is beside us, and the job's own log.
fn exported(lab: &Lab) {
    let out = lab.path("bosh.tgz").display().to_string();
    ends_with_0(lab, &["export", "app", &out]);
    let listed = good(Command::new("tar").args(["-tzf", &out]).output().unwrap());
    for wanted in
        ["blob-1", "blob-2", "store/latest", "micro_bosh.yml", "bosh.dump", "job.log", "manifest.json"]
    {
        assert!(listed.contains(wanted), "{wanted} is not in\n{listed}");
    }
    assert!(!listed.contains("scratch"), "{listed}");
    let name = listed.lines().find(|line| line.ends_with("job.log")).unwrap();
    let log = good(Command::new("tar").args(["-xOzf", &out, name]).output().unwrap());
    assert!(log.contains("mirrored"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_director_that_is_not_well_is_left_alone() {
    let director = Director::start();
    let setup = far::director(&director).replace("stop_timeout", "require_healthy = true\nstop_timeout");
    let lab = setup.start().await;
    director.monit(&["stop", "blobstore"]);
    until("it is down", || !director.process("blobstore") && !director.runs("blobstore"));
    director.forget();
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "failed", "{ended:?}");
    assert!(ended.units[0].error.contains("blobstore"), "{ended:?}");
    assert_eq!((director.did(), lab.snapshots_in("repo")), (Vec::new(), 0));
    assert!(director.runs("postgres") && director.runs("director") && !director.process("blobstore"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: an account of its own, and sudo"]
async fn system_a_director_is_backed_up_with_no_more_rights_than_setup_has_brought() {
    let director = Director::on(crate::host::Host::start_with_vcap());
    let host = &director.host;
    let lab = unknown(&director).replace("include = [", "sudo = true\ninclude = [").start().await;
    crate::setup::admin(host, "vcap ALL=(ALL) NOPASSWD: ALL\n");
    let (print, identity) = (host.fingerprint(), host.identity().display().to_string());
    ends_with_0(&lab, &["setup", "app", "--host-key", &print, "--identity", &identity]);
    crate::setup::admin(host, "");
    // Only root may read these.
    host.write("store/director/secret", "root's own\n", 0o600);
    ends_with_0(&lab, &["run", "b"]);
    assert!(director.all_run(), "{}", lab.daemon.log());
    in_order(&director.did());
    let store = host.path("store").display().to_string();
    assert_eq!(far::saved(&lab, &format!("/files{store}/director/secret")), "root's own");
    exported(&lab);
    // A restore needs more, which is told before anything has changed.
    damage(&director);
    let done = holdfast(&lab, &["restore", "app", "--yes"]);
    let said = stdout(&done) + &stderr(&done);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("lets a restore run `test`") && said.contains("--restore"), "{said}");
    assert_eq!(host.text("store/blobstore/store/0a/blob-1"), "damaged\n");
    until("all run", || director.all_run());
    // Brought by somebody who may, and then nobody may do more than it says.
    crate::setup::admin(host, "vcap ALL=(ALL) NOPASSWD: ALL\n");
    ends_with_0(&lab, &["setup", "app", "--restore"]);
    crate::setup::admin(host, "");
    ends_with_0(&lab, &["setup", "app", "--restore"]);
    let rules = host.text("sudoers.d/holdfast-app-restore");
    assert!(rules.contains("/mv ^-T -- ") && !rules.contains("ALL\n"), "{rules}");
    let beside = host.path("store/.holdfast-j1").display().to_string();
    for refused in [
        format!("rm -rf -- {store}"),
        format!("rm -rf -- {beside}/../director"),
        format!("rm -rf -- {beside} {store}"),
        format!("mv -T -- /etc/shadow {store}/director"),
        format!("mv -T -- {store}/director {beside}/old/director x"),
        "mkdir -m 0700 -- /etc/x /etc/x/new /etc/x/old".to_owned(),
        "rsync --server -logDtpre.iLsfxC . /etc/".to_owned(),
        "test -e /etc/shadow".to_owned(),
    ] {
        assert!(!host.ssh(&format!("sudo -n {refused}")).status.success(), "{refused}\n{rules}");
    }
    ends_with_0(&lab, &["restore", "app", "--yes"]);
    assert_data(&director, &lab);
    until("all run again", || director.all_run());
}
