//! Canaries: neither the password nor a credential is found where it must not be.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::crash::slow_restic;
use crate::lab::{Lab, PASSWORD, Setup};
use crate::support::stdout;

const CREDENTIAL: &str = "canary-credential-9917";
const CANARIES: [&str; 2] = [PASSWORD, CREDENTIAL];

fn guarded() -> Setup {
    let setup = Setup::new()
        .hooked()
        .replace("instances = [\"app\"]", "instances = [\"app\"]\nretry = { attempts = 0, delay = \"1s\" }");
    let mut setup = setup.replace(
        "password_file = \"password\"",
        "password_file = \"password\"\nenvironment_file = \"credentials\"",
    );
    setup.environment.push(("HOLDFAST_LOG".into(), "trace".into()));
    setup.write("config/credentials", &format!("AWS_SECRET_ACCESS_KEY={CREDENTIAL}\n"), 0o600);
    setup
}

fn assert_clean(text: &[u8], what: &str) {
    for canary in CANARIES {
        let at = text.windows(canary.len()).position(|w| w == canary.as_bytes());
        let around = |at: usize| {
            String::from_utf8_lossy(&text[at.saturating_sub(100)..(at + 60).min(text.len())]).into_owned()
        };
        assert!(at.is_none(), "{canary} is in {what}: …{}…", around(at.unwrap_or(0)));
    }
}

/// The arguments of all processes of this machine.
fn all_arguments() -> Vec<u8> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().into_string().ok());
    let pids = pids.filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()));
    pids.flat_map(|pid| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).collect()
}

/// Every file below a directory, but for those that must hold secrets.
fn assert_files_clean(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => assert_files_clean(&path),
            kind if kind.is_file() => assert_clean(&fs::read(&path).unwrap(), &path.display().to_string()),
            _ => {}
        }
    }
}

async fn assert_bus_clean(lab: &Lab) {
    let tree = lab.bus.busctl(&[
        "call",
        "org.holdfast.Backup1",
        "/org/holdfast/Backup1",
        "org.freedesktop.DBus.ObjectManager",
        "GetManagedObjects",
    ]);
    assert!(stdout(&tree).contains("Repository"), "{}", stdout(&tree));
    assert_clean(&tree.stdout, "the bus");
    assert_clean(format!("{:?}", lab.history().await).as_bytes(), "the history");
    assert_clean(format!("{:?}", lab.sets("app").await).as_bytes(), "the sets");
}

/// X01–X04, X06, X07, at trace level.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_arguments_hooks_log_bus_database_or_errors() {
    let lab = guarded().start().await;
    lab.on("dump", "env >\"$D/seen-by-dump\"; tr '\\0' '\\n' </proc/$PPID/environ >>\"$D/seen-by-dump\" 2>/dev/null; true");
    lab.on("cleanup", "env >\"$D/seen-by-cleanup\"");
    slow_restic(&lab);
    let job = lab.daemon.run_backup("b").await;
    lab.until("restic has its lock", || !lab.locks("repo").is_empty()).await;
    assert_clean(&all_arguments(), "the arguments of processes");
    assert_bus_clean(&lab).await;
    lab.cancel(&job).await;
    lab.ended(&job).await;
    lab.remove("on-backup");
    lab.remove("app/state/files/noise");
    lab.good_backup("b").await;
    for hook in ["dump", "cleanup"] {
        let seen = lab.text(&format!("seen-by-{hook}"));
        assert!(seen.contains("MODULE_ID=app"), "{seen}");
        assert_clean(seen.as_bytes(), "the environment of a hook");
    }

    // restic's own words are repeated in errors: even there.
    lab.on("backup", &format!("echo \"Fatal: odd {PASSWORD} and {CREDENTIAL}\" >&2; exit 77"));
    let ended = lab.backup("b").await;
    assert!(ended.error.contains("odd *** and ***"), "{}", ended.error);
    lab.remove("on-backup");
    lab.write("config/password", "canary-password-7261-wrong\n", 0o600);
    let ended = lab.backup("b").await;
    assert_clean(ended.error.as_bytes(), "an error");
    lab.good_failure_of_restore().await;

    assert_bus_clean(&lab).await;
    let log = lab.daemon.log();
    assert!(log.contains("TRACE"), "the log is at trace level");
    assert_clean(log.as_bytes(), "the log");
    assert_clean(lab.text("calls").as_bytes(), "restic's arguments");
    assert_files_clean(&lab.path("state"));
    assert_files_clean(&lab.path("cache"));
}

impl Lab {
    /// A restore with the wrong password fails without saying it.
    async fn good_failure_of_restore(&self) {
        let ended = self.restore("app", "", &[]).await;
        assert_eq!(ended.outcome, "failed");
        assert_clean(ended.error.as_bytes(), "an error");
    }
}

/// Whoever may look at a path below a directory.
fn assert_private(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        let mode = meta.permissions().mode() & 0o777;
        let allowed = if meta.is_symlink() { 0o777 } else { 0o711 };
        assert_eq!(mode & !allowed, 0, "{} has mode {mode:o}", entry.path().display());
        if meta.is_dir() {
            assert_private(&entry.path());
        } else if meta.is_file() {
            assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", entry.path().display());
        }
    }
}

/// X10.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_password_is_used_by_the_next_run() {
    let lab = Setup::new().plain().start().await;
    lab.good_backup("b").await;
    lab.write("new-password", "canary-new-password\n", 0o600);
    let new = lab.path("new-password");
    let changed = lab.restic("repo", &["key", "passwd", "--new-password-file", new.to_str().unwrap()]);
    assert!(changed.status.success(), "{}", crate::support::stderr(&changed));
    assert_eq!(lab.backup("b").await.outcome, "failed");
    lab.write("config/password", "canary-new-password\n", 0o600);
    lab.good_backup("b").await;
}

/// X08.
#[tokio::test(flavor = "multi_thread")]
async fn state_staging_and_secrets_are_private_under_any_umask() {
    let lab = guarded().start().await;
    lab.good_backup("b").await;
    lab.hold("backup");
    let job = lab.daemon.run_backup("b").await;
    lab.reached("backup").await;
    let mode = |name: &str| fs::metadata(lab.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode("state"), mode("cache"), mode("staging"), mode("runtime")),
        (0o700, 0o700, 0o700, 0o711)
    );
    assert_private(&lab.path("runtime"));
    assert_private(&lab.path("state/undo"));
    assert_eq!((mode("state/holdfast.db"), mode("staging/app")), (0o600, 0o700));
    lab.go("backup");
    lab.ended(&job).await;
}

/// The processes that a process has started, by `/proc`.
fn children(of: u32) -> Vec<u32> {
    let line = format!("PPid:\t{of}\n");
    let pids = fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| status.contains(&line))
    })
    .collect()
}

/// X05: neither the daemon nor a restic leaves its memory in a core dump, neither as a file nor piped to a program.
#[tokio::test(flavor = "multi_thread")]
async fn x05_a_crash_leaves_no_core_dump() {
    let mut lab = Setup::new().plain().start().await;
    lab.hold("backup");
    lab.daemon.run_backup("b").await;
    lab.reached("backup").await;
    let restic = children(lab.daemon.pid());
    assert!(!restic.is_empty(), "no child is at work");
    for pid in restic.iter().chain([&lab.daemon.pid()]) {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let values: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert!(values.len() == 2 && values.iter().all(|most| *most <= 1), "{pid}: {line}");
    }
    lab.daemon.signal(rustix::process::Signal::ABORT);
    assert_eq!(lab.daemon.wait_for_exit(), None, "it did not die of the signal");
    for dir in [lab.daemon.dir.path(), Path::new(".")] {
        let left = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let dumps: Vec<String> = left.filter(|name| name == "core" || name.starts_with("core.")).collect();
        assert!(dumps.is_empty(), "{dumps:?} in {}", dir.display());
    }
}

/// X09: a password file that has become a link, a FIFO or a directory is refused, and nobody waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn x09_a_password_file_that_is_none_is_refused_at_once() {
    let setup = Setup::new().plain();
    let setup = setup
        .replace("instances = [\"app\"]", "instances = [\"app\"]\nretry = { attempts = 0, delay = \"1s\" }");
    let lab = setup.start().await;
    lab.good_backup("b").await;
    let file = lab.path("config/password");
    lab.write("elsewhere", &format!("{PASSWORD}\n"), 0o600);
    type Replace = fn(&Path, &Path);
    let replacements: [(&str, Replace); 3] = [
        ("a link", |file, to| std::os::unix::fs::symlink(to, file).unwrap()),
        ("a FIFO", |file, _| {
            rustix::fs::mknodat(rustix::fs::CWD, file, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        }),
        ("a directory", |file, _| fs::create_dir(file).unwrap()),
    ];
    for (what, replace) in replacements {
        fs::remove_file(&file).unwrap();
        replace(&file, &lab.path("elsewhere"));
        let ended = lab.backup("b").await;
        assert_eq!(ended.outcome, "failed", "{what}: {ended:?}");
        let said = format!("{} {:?}", ended.error, ended.units);
        assert!(said.contains("config/password"), "{what}: {said}");
        assert_clean(said.as_bytes(), "the error");
        if what == "a directory" {
            fs::remove_dir(&file).unwrap();
            lab.write("config/password", &format!("{PASSWORD}\n"), 0o600);
        }
    }
    lab.good_backup("b").await;
}
