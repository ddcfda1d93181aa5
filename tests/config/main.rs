//! Definition files as a person writes them, good and bad: what is active afterwards, and what is said.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod bad;
mod bad_values;
mod edit;
mod explain;
mod files;
mod good;
mod reload;
mod secrets;
mod shipped;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use holdfast::config::{Diagnostic, Dirs, Environment, Loaded, load};
use holdfast::definition::{Backup, Instance, Repository};

/// A configuration directory of its own, with an empty module library.
struct Etc {
    root: tempfile::TempDir,
}

impl Etc {
    fn new() -> Self {
        let etc = Self { root: tempfile::tempdir().unwrap() };
        for dir in ["etc/conf.d", "modules"] {
            std::fs::create_dir_all(etc.path(dir)).unwrap();
        }
        for dir in ["etc", "etc/conf.d", "modules"] {
            std::fs::set_permissions(etc.path(dir), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        etc
    }

    /// With this `holdfast.toml`.
    fn with(text: &str) -> Self {
        let etc = Self::new();
        etc.write("etc/holdfast.toml", text);
        etc
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
        self.mode(name, 0o600);
    }

    fn mode(&self, name: &str, mode: u32) {
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn dirs(&self) -> Dirs {
        Dirs { config: self.path("etc"), modules: self.path("modules") }
    }

    fn load(&self) -> Loaded {
        load(&self.dirs(), &environment(), None)
    }

    fn reload(&self, previous: &Loaded) -> Loaded {
        load(&self.dirs(), &environment(), Some(previous))
    }
}

fn environment() -> Environment {
    Environment {
        host: "thishost".into(),
        zone: jiff::tz::TimeZone::UTC,
        state_dir: "/var/lib/holdfast".into(),
        cache_dir: "/var/cache/holdfast".into(),
        uid: rustix::process::geteuid().as_raw(),
        cpus: 3,
    }
}

fn backup<'l>(loaded: &'l Loaded, name: &str) -> &'l Backup {
    loaded.definitions.backups.get(name).unwrap_or_else(|| panic!("no backup {name}: {}", said(loaded)))
}

fn repository<'l>(loaded: &'l Loaded, name: &str) -> &'l Repository {
    loaded
        .definitions
        .repositories
        .get(name)
        .unwrap_or_else(|| panic!("no repository {name}: {}", said(loaded)))
}

fn instance<'l>(loaded: &'l Loaded, name: &str) -> &'l Instance {
    loaded.definitions.instances.get(name).unwrap_or_else(|| panic!("no instance {name}: {}", said(loaded)))
}

/// All that was said, as a person sees it.
fn said(loaded: &Loaded) -> String {
    loaded.diagnostics.iter().map(|d| format!("{}\n", d.rendered)).collect()
}

/// The findings about one file, as `LINE:COLUMN MESSAGE (HELP)`.
fn findings(loaded: &Loaded, file: &Path) -> Vec<String> {
    let one = |d: &Diagnostic| {
        let help = d.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{}:{} {}{help}", d.line, d.column, d.message)
    };
    loaded.diagnostics.iter().filter(|d| d.file == file).map(one).collect()
}
