//! What callers may not who are let in, and others who are not. What calls as others needs root.

use std::os::unix::fs::PermissionsExt;

use crate::authority::{MANAGER, Says, as_nobody, authority, job_of, manager, run};
use crate::support::{Bus, Daemon, NAME, ROOT, stderr, stdout};

/// From now on restic waits, for as long as `data/hold` is there; one at a time.
pub(crate) fn hold_restic(bus: &Bus, daemon: &Daemon) {
    daemon.write("data/hold", "");
    let slow = "[daemon]\nmax_parallel = 1\nrestic = \"@DIR@/slow-restic\"\n";
    let script = "#!/bin/sh\n[ \"$1\" = version ] || while [ -e @DIR@/data/hold ]; do sleep 0.1; done\nexec restic \"$@\"\n";
    let script = daemon.write("slow-restic", script);
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = daemon.read("config/holdfast.toml").replacen("[daemon]\n", slow, 1);
    daemon.write("config/holdfast.toml", &config);
    let reload = bus.busctl(&["call", NAME, ROOT, MANAGER, "Reload"]);
    assert!(stdout(&reload).starts_with("as 0"), "{}{}", stdout(&reload), stderr(&reload));
}

/// One caller cannot fill the queue; root still gets through.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users"]
async fn system_one_caller_has_so_many_jobs_and_no_more() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let (_authority, _connection) = authority(&bus, &[("run", Says::Yes)]).await;
    // Each waits for the repository, which is held as long as a lock of ours stands.
    let definitions: String = (0..25)
        .map(|n| format!("[instance.i{n}]\ninclude = [\"@DIR@/data\"]\n[backup.b{n}]\nrepositories = [\"local\"]\ninstances = [\"i{n}\"]\n"))
        .collect();
    daemon.write("config/conf.d/many.toml", &definitions);
    hold_restic(&bus, &daemon);
    let mut open = Vec::new();
    for n in 0..20 {
        let answer = run(&bus, &format!("b{n}"));
        assert!(answer.status.success(), "{n}: {}", stderr(&answer));
        open.extend(stdout(&answer).split('"').nth(1).map(str::to_owned));
    }
    let refused = run(&bus, "b20");
    assert!(stderr(&refused).contains("20 is the most"), "{}", stderr(&refused));
    let job = daemon.run_backup("b21").await;
    std::fs::remove_file(daemon.dir.path().join("data/hold")).unwrap();
    assert_eq!(daemon.wait_for_job(&job).await, "succeeded", "{}", daemon.log());
    // Of twenty that take turns, root's may be the first to end.
    daemon.wait_for_job(&open[0]).await;
    let again = run(&bus, "b20");
    assert!(again.status.success(), "{}", stderr(&again));
}

/// B46, B50: root in a namespace of one's own is nobody to the bus, also through its socket mounted elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users"]
async fn system_root_of_a_user_namespace_is_not_root() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let socket = bus.address.trim_start_matches("unix:path=").to_owned();
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let elsewhere = dir.path().join("bus");
    std::fs::write(&elsewhere, "").unwrap();
    let script = format!(
        "id -u; mount --bind {socket} {at} && dbus-send --bus=unix:path={at} --print-reply --dest={NAME} {ROOT} \
         {MANAGER}.RunBackup string:mybackup dict:string:string:",
        at = elsewhere.display()
    );
    let mut setpriv = bus.command("setpriv");
    setpriv.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
    ]);
    let answer = setpriv.args(["sh", "-c", &script]).output().unwrap();
    assert!(stdout(&answer).starts_with("0\n"), "no namespace: {}{}", stdout(&answer), stderr(&answer));
    let said = stderr(&answer);
    assert!(!answer.status.success(), "{}", stdout(&answer));
    assert!(
        said.contains("NotAuthorized")
            || said.contains("AccessDenied")
            || said.contains("NoReply")
            || said.contains("Failed to open connection")
            // What it says of itself does not fit what the kernel says of it.
            || said.contains("Failed to register on connection"),
        "{said}"
    );
    let jobs = daemon.call::<_, Vec<crate::support::Row>>("ListJobs", &(crate::support::Row::new(),)).await;
    assert!(jobs.unwrap().is_empty(), "a job was begun");
}

/// Those whom a definition names see, run and cancel it without polkit, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users"]
async fn system_those_named_in_a_definition_run_and_cancel_it_and_no_more() {
    let bus = Bus::start();
    let named = crate::CONFIG[0].1.replace("schedule = \"daily\"", "allow_users = [\"nobody\"]");
    let named = named.replace("[instance.app-1]", "[instance.app-1]\nallow_groups = [\"nogroup\"]");
    let daemon = Daemon::start(&bus, &[("holdfast.toml", &named)]).await;
    daemon.write("data/file", "one\n");
    let job = job_of(&run(&bus, "mybackup"));
    let seen = as_nobody(&bus, &["get-property", NAME, &job, "org.holdfast.Backup1.Job", "Kind"]);
    assert_eq!(stdout(&seen).trim(), "s \"backup\"", "{}", stderr(&seen));
    let cancel = as_nobody(&bus, &["call", NAME, &job, "org.holdfast.Backup1.Job", "Cancel"]);
    assert!(!stderr(&cancel).contains("not authorised"), "{}", stderr(&cancel));
    daemon.wait_for_job(&job).await;
    let sets = manager(&bus, &["ListSnapshots", "s", "app-1"]);
    assert!(sets.status.success(), "{}", stderr(&sets));
    for refused in [
        run(&bus, "off"),
        manager(&bus, &["Restore", "ssa{sv}", "app-1", "", "0"]),
        manager(&bus, &["RemoveBackup", "s", "mybackup"]),
        manager(&bus, &["Prune", "s", "local"]),
        manager(&bus, &["ListJobs", "a{sv}", "0"]),
        as_nobody(&bus, &["get-property", NAME, ROOT, MANAGER, "Version"]),
    ] {
        assert!(stderr(&refused).contains("not authorised to"), "{} {}", stdout(&refused), stderr(&refused));
    }
}
