use super::*;

/// Runs the script here, cut off while its n-th `mv` goes on; 0: not at all.
fn run(far: &Far, verb: &str, fails_at: usize, dir: &Path) {
    let bin = dir.join("bin");
    let _ = std::fs::create_dir(&bin);
    let count = dir.join("count");
    let _ = std::fs::remove_file(&count);
    let text = format!(
        "#!/bin/sh\necho >>'{0}'\n[ $(wc -l <'{0}') != {fails_at} ] || kill -9 $PPID\nexec /bin/mv \"$@\"\n",
        count.display()
    );
    std::fs::write(bin.join("mv"), text).unwrap();
    std::fs::set_permissions(bin.join("mv"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut sh = shell();
    let status = sh
        .args(["-c", SCRIPT, "sh", verb, ""])
        .args(far.words(|root| if verb == "swap" { &root.comes } else { &root.was }))
        .env("PATH", path)
        .env("HOME", dir)
        .status()
        .unwrap();
    assert!(fails_at > 0 || status.success());
}

fn state(dir: &Path) -> Vec<String> {
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_else(|_| "-".into());
    ["a", "b", "c"].iter().map(|name| read(name)).collect()
}

fn mode(dir: &Path) -> u32 {
    let meta = std::fs::metadata(dir.join("volume")).unwrap();
    std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o7777
}

fn far(dir: &Path, back: bool) -> Far {
    let item = |name: &str, was, comes| FarItem {
        live: TreePath(dir.join(name)),
        annex: TreePath(dir.join(".holdfast-j1")),
        was,
        comes,
    };
    let remote = Remote {
        user: None,
        host: "h".into(),
        port: None,
        key: "k".into(),
        known_hosts: "k".into(),
        sudo: false,
        mirror: "m".into(),
    };
    let items = vec![item("a", true, true), item("b", false, true), item("c", true, false)];
    let owner = format!("{}:{}", rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let marks = |mode: &str| Marks { owner: owner.clone(), mode: mode.to_owned() };
    let root = FarRoot {
        dir: TreePath(dir.join("volume")),
        annex: TreePath(dir.join(".holdfast-j1")),
        was: marks("700"),
        comes: marks("751"),
    };
    Far { remote, items, roots: vec![root], back }
}

#[test]
fn a_swap_cut_off_anywhere_is_put_back_and_a_whole_one_can_be_turned_round() {
    for fails_at in 0..6 {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let annex = dir.join(".holdfast-j1");
        for part in ["new", "old"] {
            std::fs::create_dir_all(annex.join(part)).unwrap();
        }
        for (name, text) in
            [("a", "old"), ("c", "old"), (".holdfast-j1/new/a", "new"), (".holdfast-j1/new/b", "new")]
        {
            std::fs::write(dir.join(name), text).unwrap();
        }
        std::fs::create_dir(dir.join("volume")).unwrap();
        let far = far(dir, false);
        run(&far, "swap", fails_at, dir);
        if fails_at == 0 {
            assert_eq!(state(dir), ["new", "new", "-"]);
            assert_eq!(mode(dir), 0o751);
            run(&far.reversed(), "swap", 0, dir);
            assert_eq!(state(dir), ["old", "-", "old"], "a rollback");
            run(&far.reversed(), "back", 0, dir);
            assert_eq!(state(dir), ["new", "new", "-"], "a rollback that is undone");
        }
        for again in 1..5 {
            run(&far, "back", again, dir);
        }
        run(&far, "back", 0, dir);
        assert_eq!(state(dir), ["old", "-", "old"], "{fails_at}");
        assert_eq!(mode(dir), 0o700, "{fails_at}");
    }
}

/// A sudo that lets through no more than the first question, and speaks the language of its caller.
const SUDO: &str = r#"#!/bin/sh
[ "$*" != '-n test -e /' ] || exit 0
case $LC_ALL in C) echo 'sudo: a password is required' ;; *) echo 'sudo: Ein Passwort ist notwendig' ;; esac >&2
exit 1
"#;

#[test]
fn what_sudo_does_not_let_us_look_at_is_not_taken_for_absent_whatever_language_it_speaks() {
    let dir = tempfile::tempdir().unwrap();
    let sudo = dir.path().join("sudo");
    std::fs::write(&sudo, SUDO).unwrap();
    std::fs::set_permissions(&sudo, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for language in ["C", "de_DE.UTF-8"] {
        let root = format!("{} -n", sudo.display());
        let mut sh = shell();
        sh.args(["-c", SCRIPT, "sh", "look", &root, "/x"]).env("LC_ALL", language).env("HOME", dir.path());
        let said = sh.output().unwrap();
        assert_eq!((said.status.code(), &*said.stdout), (Some(1), &b""[..]), "{language}");
        assert!(String::from_utf8_lossy(&said.stderr).contains("a password is required"), "{language}");
    }
}
