//! Files of engines on another machine, where we log in as somebody who may run no more as root than `holdfast setup` wrote.
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

use std::process::{Command, Stdio};

use super::etcd::Etcd;
use super::host::Host;
use super::openldap::Slapd;
use super::over_ssh::there;
use super::*;
use crate::support::{stderr, stdout};

/// Whom we log in as.
const VCAP: u32 = 64123;

fn holdfast(lab: &Lab, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.env("HOLDFAST_BUS", &lab.bus.address).env("HOLDFAST_CONFIG", lab.path("config"));
    command.env("HOLDFAST_STATE", lab.path("state")).env("HOLDFAST_CACHE", lab.path("cache"));
    command.env("HOME", &lab.dir).stdin(Stdio::null()).args(arguments);
    let done = command.output().unwrap();
    (done.status.code(), stdout(&done) + &stderr(&done))
}

#[track_caller]
fn good(lab: &Lab, arguments: &[&str]) {
    let (code, said) = holdfast(lab, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {said}\n{}", lab.daemon.log());
}

/// What an administrator of the other machine lets us do.
fn admin(host: &Host, everything: bool) {
    let path = host.write("sudoers.d/10-admin", "vcap ALL=(ALL) NOPASSWD: ALL\n", 0o440);
    if !everything {
        std::fs::remove_file(path).unwrap();
    }
}

/// Has setup write its files while an administrator lets it.
fn set_up(lab: &Lab, host: &Host, more: &[&str]) {
    admin(host, true);
    let (print, identity) = (host.fingerprint(), host.identity().display().to_string());
    let mut arguments = vec!["setup", "app", "--host-key", &print, "--identity", &identity];
    arguments.extend(more);
    good(lab, &arguments);
    admin(host, false);
    good(lab, &arguments);
}

/// Lets whom we log in as read it.
fn given(path: &Path) {
    let mut chown = Command::new("chown");
    let done = chown.args(["-R", &format!("{VCAP}:{VCAP}")]).arg(path).output().unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: an account of its own, and sudo"]
async fn system_files_of_engines_change_places_with_no_more_rights_than_setup_has_brought() {
    let host = Host::start_with_vcap();
    let (slapd, etcd) = (Slapd::start("first"), Etcd::start("first"));
    ["conf", "db-one", "db-two"].iter().for_each(|dir| given(&slapd.0.path(dir)));
    let database = host.path("apart/app.db");
    drop(sqlite::make(&database, 100));
    given(&host.path("apart"));
    let sqlite = format!("source = \"sqlite\"\ndatabases = [{:?}]\n", database.display().to_string());
    // Two services may not have one name.
    let etcd_keys = etcd.definition().replace("name = \"server\"", "name = \"etcd\"");
    let keys = format!("ssh = \"{}:{}\"\nsudo = true\n", host.login(), host.port);
    let setup = there(&host, &keys, &[sqlite, slapd.definition(), etcd_keys]);
    std::fs::remove_dir_all(setup.path("state/ssh")).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
    std::fs::set_permissions(host.path("tmp"), open).unwrap();
    let lab = setup.start().await;
    let state = || {
        slapd.answers();
        format!("{}\n{}\n{:?}", slapd.state(), etcd.state(), sqlite::count(&database))
    };
    set_up(&lab, &host, &[]);
    let first = state();
    lab.good_backup("b").await;
    slapd.change();
    etcd.change();
    // Left open: what was written last stands beside the file.
    std::mem::forget(sqlite::make(&database, 7));
    let late = state();
    let (code, said) = holdfast(&lab, &["restore", "app", "--yes"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("lets a restore run `test`") && said.contains("--restore"), "{said}");
    assert_eq!(state(), late);
    set_up(&lab, &host, &["--restore"]);
    bounded(&host, &slapd, &etcd);
    lab.good_restore("app").await;
    assert_eq!(state(), first, "{}", lab.daemon.log());
    let owner = |path: &Path| std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(path).unwrap());
    assert_eq!(owner(&slapd.0.path("db-one/data.mdb")), VCAP);
    assert_eq!((owner(&etcd.server.path("data")), owner(&database)), (0, VCAP));
    let kept = lab::names(&lab.path("state/kept"));
    let made: Vec<String> =
        lab::names(Path::new("/var/tmp")).into_iter().filter(|name| name.contains(&kept[0])).collect();
    assert_eq!(made, [""; 0], "what was made there is gone");
    roll_back(&lab).await;
    assert_eq!(state(), late, "{}", lab.daemon.log());
}

/// Nothing but what the engines have changes places, and nothing is given away where links can be laid.
fn bounded(host: &Host, slapd: &Slapd, etcd: &Etcd) {
    let rules = host.text("sudoers.d/holdfast-app-restore");
    assert!(rules.contains("/chown ^-hR -- ") && !rules.contains("ALL\n"), "{rules}");
    let (data, conf) = (etcd.server.path("data"), slapd.0.path("conf"));
    let (data, conf) = (data.display(), conf.display());
    let beside = etcd.server.path(".holdfast-j1_etcd");
    let beside = beside.display();
    for command in [
        "chown -hR -- 64123:64123 /var/tmp/.holdfast-j1_etcd_made/data".to_owned(),
        "chown -hR -- 64123:64123 /etc".to_owned(),
        format!("chown -hR -- 64123:64123 {data}"),
        format!("chown -hR -- vcap {beside}/new/data"),
        format!("chown -hR -- 64123:64123 {beside}/new/data /etc"),
        format!("mv -T -- {data} {conf}"),
        format!("mv -T -- /etc/shadow {beside}/new/data"),
        format!("mv -T -- /var/tmp/.holdfast-j1_etcd_made/../data {beside}/new/data"),
        format!("mv -T -- {beside}/new/data {conf}"),
        format!("rm -rf -- {data}"),
        "rm -rf -- /var/tmp/.holdfast-j1_etcd_made/../x".to_owned(),
        format!("stat -c %i -- {data}/other"),
        format!("test -e {data}/member"),
        "test -e /etc/shadow".to_owned(),
        "find / -delete".to_owned(),
    ] {
        let done = host.ssh(&format!("sudo -n {command}"));
        let said = stderr(&done);
        assert!(said.contains("password is required"), "{command}: {said}\n{rules}");
    }
}
