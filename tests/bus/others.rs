//! What others try with what is not theirs: targets of their choice, jobs and names of definitions that are kept from them.
//! What calls as others needs root.

use std::os::unix::fs::{lchown, symlink};
use std::process::Output;

use crate::authority::{MANAGER, Says, as_member, as_nobody, authority, job_of, manager, run};
use crate::limits::hold_restic;
use crate::policy::installed_with_polkit;
use crate::support::{Bus, Daemon, NAME, ROOT, Row, stderr, stdout};

const NOBODY: u32 = 65534;

fn to(method: &str, target: &str) -> [String; 12] {
    ["call", NAME, ROOT, MANAGER, method, "ssa{sv}", "app-1", "", "1", "target", "s", target]
        .map(str::to_owned)
}

fn words(call: &[String]) -> Vec<&str> {
    call.iter().map(String::as_str).collect()
}

fn says(answer: &Output, words: &str, what: &str) {
    assert!(stderr(answer).contains(words), "{what}: no {words:?} in {}{}", stdout(answer), stderr(answer));
}

/// B16–B20: the root, /etc, a relative one, one below a link, one in the caller's own home. Where data goes, definitions
/// say, or those who may define.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users, and the group holdfast"]
async fn system_b16_to_b20_targets_of_ones_own_choice_are_refused() {
    let bus = installed_with_polkit();
    let daemon = crate::daemon(&bus).await;
    let granted = [("view", Says::Yes), ("run", Says::Yes), ("restore", Says::Yes)];
    let (_authority, _connection) = authority(&bus, &granted).await;
    let job = daemon.run_backup("mybackup").await;
    assert_eq!(daemon.wait_for_job(&job).await, "succeeded", "{}", daemon.log());
    let home = daemon.dir.path().join("home");
    std::fs::create_dir(&home).unwrap();
    symlink("/etc", home.join("link")).unwrap();
    for path in [home.clone(), home.join("link")] {
        lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let (below_link, own) = (home.join("link/holdfast-b19"), home.join("b20"));
    let (below_link, own) = (below_link.to_str().unwrap(), own.to_str().unwrap());
    for target in ["/", "/etc", "relative/b18", below_link, own] {
        for method in ["Restore", "Plan"] {
            let call = to(method, target);
            says(&as_member(&bus, &words(&call)), "polkit refuses org.holdfast.backup1.manage", target);
            let stranger = stderr(&as_nobody(&bus, &words(&call))).to_lowercase();
            assert!(stranger.contains("access denied"), "{method} {target}: {stranger}");
        }
    }
    let beside = ["call", NAME, ROOT, MANAGER, "Restore", "ssa{sv}", "app-1", "", "1", "as", "s", "app-2"];
    says(&as_member(&bus, &beside), "backup1.manage", "beside it");
    let elsewhere = ["call", NAME, ROOT, MANAGER, "Restore", "ssa{sv}", "local:instance/x", "", "0"];
    says(&as_member(&bus, &elsewhere), "backup1.manage", "of another machine");
    let jobs: Vec<Row> = daemon.call("ListJobs", &(Row::new(),)).await.unwrap();
    assert_eq!(jobs.len(), 1, "a refused call began a job");

    // What is defined is granted.
    let in_place = as_member(&bus, &["call", NAME, ROOT, MANAGER, "Restore", "ssa{sv}", "app-1", "", "0"]);
    assert_eq!(daemon.wait_for_job(&job_of(&in_place)).await, "succeeded", "{}", daemon.log());
    as_root(&bus, &daemon, [below_link, own]).await;
}

/// Root chooses freely, but for what can only be a mistake or a trap.
async fn as_root(bus: &Bus, daemon: &Daemon, [below_link, own]: [&str; 2]) {
    for target in ["/", "relative/b18"] {
        says(&bus.busctl(&words(&to("Restore", target))), "absolute path", target);
    }
    for (target, reason) in
        [("/etc", "is not empty"), (below_link, "a symbolic link that belongs to uid 65534")]
    {
        let job = job_of(&bus.busctl(&words(&to("Restore", target))));
        assert_eq!(daemon.wait_for_job(&job).await, "failed", "{target}");
        let error: String = daemon.property(&job, "Job", "Error").await;
        assert!(error.contains(reason), "{target}: {error}");
    }
    assert!(!std::path::Path::new("/etc/holdfast-b19").exists(), "the link was followed");
    let job = job_of(&bus.busctl(&words(&to("Restore", own))));
    assert_eq!(daemon.wait_for_job(&job).await, "succeeded", "{}", daemon.log());
}

/// A daemon with a backup `mybackup` that names the user nobody, and one `theirs` that does not.
async fn two_owners(bus: &Bus) -> Daemon {
    let config = crate::CONFIG[0].1.replace("schedule = \"daily\"", "allow_users = [\"nobody\"]");
    let config = config.replace("[instance.app-1]", "[instance.app-1]\nallow_users = [\"nobody\"]");
    let theirs = "[backup.theirs]\nrepositories = [\"local\"]\ninstances = [\"app-2\"]\n[instance.app-2]\n\
                  include = [\"@DIR@/canary-include\"]\ndump_state = [\"/bin/true\", \"canary-argument\"]\n";
    let daemon = Daemon::start(bus, &[("holdfast.toml", &config), ("conf.d/theirs.toml", theirs)]).await;
    daemon.write("data/file", "one\n");
    daemon.write("canary-include/file", "two\n");
    daemon
}

/// B39: one's own job is cancelled, that of a backup that one is not named in is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users"]
async fn system_b39_the_job_of_somebody_elses_backup_is_not_cancelled() {
    let bus = Bus::start();
    let daemon = two_owners(&bus).await;
    let (_authority, _connection) = authority(&bus, &[]).await;
    hold_restic(&bus, &daemon);
    let theirs = daemon.run_backup("theirs").await;
    let mine = job_of(&run(&bus, "mybackup"));
    let cancel = |job: &str| as_nobody(&bus, &["call", NAME, job, "org.holdfast.Backup1.Job", "Cancel"]);
    says(&cancel(&theirs), "not authorised to cancel", "the job of theirs");
    let cancelled = cancel(&mine);
    assert!(cancelled.status.success(), "{}", stderr(&cancelled));
    assert_eq!(daemon.wait_for_job(&mine).await, "cancelled");
    std::fs::remove_file(daemon.dir.path().join("data/hold")).unwrap();
    assert_eq!(daemon.wait_for_job(&theirs).await, "succeeded", "{}", daemon.log());
}

/// B40: of what one is not named in nothing is told, and by name no more than of what is not there. (The lines of a job
/// are the journal's to show: case 31-polkit of the system tests.)
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users"]
async fn system_b40_what_is_kept_from_somebody_looks_as_what_is_not_there() {
    let bus = Bus::start();
    let daemon = two_owners(&bus).await;
    let (_authority, _connection) = authority(&bus, &[]).await;
    let theirs = daemon.run_backup("theirs").await;
    assert_eq!(daemon.wait_for_job(&theirs).await, "succeeded", "{}", daemon.log());
    for property in ["Error", "Units", "Outcome", "Subject"] {
        let seen = as_nobody(&bus, &["get-property", NAME, &theirs, "org.holdfast.Backup1.Job", property]);
        says(&seen, "not authorised to view", property);
        assert_eq!(stdout(&seen), "", "{property}");
    }
    let asked = |name: &str| {
        let filter = ["ListJobs", "a{sv}", "1", "subject", "s", name];
        let calls: [&[&str]; 6] = [
            &filter,
            &["ListSnapshots", "s", name],
            &["ListContents", "s", name],
            &["RunBackup", "sa{sv}", name, "0"],
            &["Restore", "ssa{sv}", name, "", "0"],
            &["Plan", "ssa{sv}", name, "", "0"],
        ];
        calls.map(|call| {
            let answer = manager(&bus, call);
            assert_eq!(stdout(&answer), "", "{call:?}");
            stderr(&answer)
        })
    };
    assert_eq!(asked("theirs"), asked("nosuch"));
    assert_eq!(asked("app-2"), asked("nosuch"));
    assert!(asked("nosuch").iter().all(|said| said.contains("not authorised to")), "{:?}", asked("nosuch"));
}

/// B43: introspection tells members of the group what there is by name, and nothing else; strangers nothing at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users, and the group holdfast"]
async fn system_b43_introspection_holds_no_internal_data() {
    let bus = installed_with_polkit();
    let daemon = two_owners(&bus).await;
    let (_authority, _connection) = authority(&bus, &[]).await;
    daemon.wait_for_job(&daemon.run_backup("theirs").await).await;
    let dir = daemon.dir.path().display().to_string();
    let secret = daemon.read("state/secrets/local.password");
    let inner = [dir.as_str(), secret.trim(), "canary", "testhost", "/bin/true", "staging"];
    let (mut open, mut seen) = (vec!["/".to_owned()], Vec::new());
    while let Some(path) = open.pop() {
        let introspect = ["call", NAME, &path, "org.freedesktop.DBus.Introspectable", "Introspect"];
        let stranger = as_nobody(&bus, &introspect);
        assert!(stderr(&stranger).to_lowercase().contains("access denied"), "{path}: {}", stdout(&stranger));
        let xml = stdout(&as_member(&bus, &["introspect", "--xml-interface", NAME, &path]));
        for word in inner {
            assert!(!xml.contains(word), "{path} tells {word:?}: {xml}");
        }
        let below = xml.lines().map(str::trim).filter_map(|line| line.strip_prefix("<node name=\""));
        let names = below.filter_map(|rest| rest.split('"').next()).filter(|name| !name.is_empty());
        open.extend(names.map(|name| format!("{}/{name}", path.trim_end_matches('/'))));
        seen.push(path);
    }
    assert!(seen.iter().any(|path| path.ends_with("/backup/theirs")), "{seen:?}");
    assert!(seen.iter().any(|path| path.contains("/job/")), "{seen:?}");
}
