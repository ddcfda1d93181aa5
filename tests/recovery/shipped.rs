//! The marker that asks for a restore, and the scripts that are shipped beside it.
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shop::Shop;
use crate::support::{stderr, stdout};

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("units/greenboot").join(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_asks_for_a_restore_at_the_next_start_and_what_came_of_it_can_be_printed() {
    let mut shop = Shop::open("").await;
    shop.save("one").await;
    shop.lab.daemon.kill();
    shop.lab.write("data-shop/file", "spoilt\n", 0o640);
    shop.systemd.set("shop", "inactive").await;
    shop.lab.write("state/recovery/shop.asked", "", 0o600);
    shop.lab.daemon.start_again().await;
    shop.back_on("one").await;
    assert_eq!(shop.lab.text("state/recovery/shop.asked"), "");
    assert!(!shop.lab.path("state/recovery/shop.asked").exists());
    let told = shop.lab.text("state/recovery/shop.result");
    assert!(told.contains("shop succeeded: ") && told.contains("data is restored"), "{told}");
    // One more start does nothing.
    shop.lab.daemon.restart_after_kill().await;
    assert_eq!(shop.recoveries().await, (1, "succeeded".to_owned()));
    assert_eq!(shop.failed(), ["spoilt\n"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_for_what_runs_touches_nothing_and_says_so() {
    let mut shop = Shop::open("").await;
    shop.save("one").await;
    shop.lab.write("data-shop/file", "good by hand\n", 0o640);
    shop.lab.write("state/recovery/shop.asked", "", 0o600);
    shop.lab.daemon.restart_after_kill().await;
    assert_eq!(shop.data(), "good by hand");
    let told = shop.lab.text("state/recovery/shop.result");
    assert!(told.contains("shop skipped: shop.service runs; nothing was touched"), "{told}");
}

/// A directory for PATH with fakes in it.
struct Fakes(tempfile::TempDir);

impl Fakes {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }

    fn sh(&self) -> Command {
        let mut command = Command::new("sh");
        command.env("PATH", format!("{}:/usr/bin:/bin", self.0.path().display()));
        command
    }
}

#[test]
fn the_unit_for_onfailure_asks_the_daemon_and_does_it_alone_only_where_there_is_none() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("units/holdfast-recover@.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    let script = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/bin/sh -c '")).unwrap();
    let (script, argument) = script.rsplit_once("' ").unwrap();
    assert_eq!(argument, "%i");
    let fakes = Fakes::new();
    for (exits, code, said) in [
        (0, 0, "recover shop\n"),
        (1, 1, "recover shop\n"),
        (4, 7, "recover shop\nrecover --no-daemon shop\n"),
    ] {
        fakes.put("holdfast", &format!("echo \"$*\"; [ \"$2\" != --no-daemon ] || exit 7; exit {exits}"));
        let ran = fakes.sh().args(["-c", &script.replace("$$", "$"), "shop"]).output().unwrap();
        assert_eq!((ran.status.code(), stdout(&ran).as_str()), (Some(code), said));
    }
}

#[test]
fn the_guard_waits_for_greenboot_and_for_nothing_else() {
    let fakes = Fakes::new();
    let fake = |name: &str, text: &str| fakes.put(name, text);
    let guard = || fakes.sh().arg(script("guard")).output().unwrap();
    fake("systemctl", "echo inactive; exit 3");
    fake("grub2-editenv", "echo boot_success=1");
    assert_eq!(guard().status.code(), Some(0), "{}", stderr(&guard()));
    fake("grub2-editenv", "echo boot_counter=2; echo boot_success=0");
    assert_eq!(guard().status.code(), Some(75));
    fake("grub2-editenv", "echo boot_success=0");
    fake("systemctl", "echo activating; exit 3");
    assert_eq!(guard().status.code(), Some(75));
    assert!(stderr(&guard()).contains("still checks"), "{}", stdout(&guard()));
}
