//! The running daemon as callers of the bus see it: real `holdfastd`, real `dbus-daemon`, real restic.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[expect(dead_code, unreachable_pub, reason = "shared with the other integration tests; each uses a part")]
#[path = "../support/mod.rs"]
mod support;

mod authority;
mod calls;
mod catalogue;
mod connection;
mod definitions;
mod errors;
mod floods;
mod fuzz;
mod gate;
mod hostile;
mod introspection;
mod limits;
mod others;
mod policy;
mod polkit;
mod signals;

/// A configuration with a repository, a backup, a disabled backup and an instance with a file.
const CONFIG: &[(&str, &str)] = &[(
    "holdfast.toml",
    r#"# kept: first line
[daemon]
staging_dir = "@DIR@/staging"
host = "testhost"

[repository.local]
url = "@DIR@/repository"

# kept: about mybackup
[backup.mybackup]
repositories = ["local"]
instances = ["app-1"] # kept: inline
schedule = "daily"

[backup.off]
repositories = ["local"]
instances = ["app-1"]
enabled = false

[instance.app-1]
include = ["@DIR@/data"]
"#,
)];

/// A daemon with [`CONFIG`] and some data for its instance.
async fn daemon(bus: &support::Bus) -> support::Daemon {
    let daemon = support::Daemon::start(bus, CONFIG).await;
    daemon.write("data/file", "one\n");
    daemon.write("data/sub/other", "two\n");
    daemon
}
