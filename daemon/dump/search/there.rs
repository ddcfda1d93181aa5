//! The directory of a repository on another machine. What is done in it is done as the server's own user, also where we log in
//! as root: that user may put links there meanwhile.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result};

use super::desk::Desk;
use crate::dump::run::{self, Call};
use crate::dump::site::words;

/// `$1` is what to do, `$2` the directory for snapshots, `$3` our own in it.
const SCRIPT: &str = r#"set -eu
umask 027
above=$2 own=$2/$3
[ -d "$above" ] || { echo "$above is not a directory" >&2; exit 1; }
as=
if [ "$(id -u)" = 0 ]; then
    as="setpriv --reuid=$(stat -L -c %u -- "$above") --regid=$(stat -L -c %g -- "$above") --clear-groups"
fi
case $1 in
look) ;;
pack) exec $as tar --create --format=gnu --sort=name --numeric-owner --directory "$own" . ;;
lay) $as mkdir -m 0750 -- "$own"
    exec $as tar --extract --no-same-owner --no-same-permissions --directory "$own" ;;
clear) exec $as rm -rf -- "$own" ;;
esac
"#;

fn call(desk: &Desk<'_>, verb: &str) -> Call {
    let mut argv = words(["sh", "-c", SCRIPT, "sh", verb]);
    argv.extend([desk.search.snapshot_dir.clone().into(), OsString::from(desk.repository())]);
    let mut call = desk.site.client(argv, &[]);
    call.name = "tar".to_owned();
    call
}

/// Whether the directory for snapshots is there.
pub(super) async fn look(desk: &Desk<'_>) -> Result<()> {
    run::ask(call(desk, "look"), &desk.site.cancel).await.map(drop).context("`snapshot_dir` there")
}

/// Packs what the server wrote.
pub(super) async fn pack(desk: &Desk<'_>, path: &Path) -> Result<()> {
    run::into_file(call(desk, "pack"), path, &desk.site.cancel).await.with_context(|| {
        format!(
            "packing {} there, where `server_dir` must be the same as `snapshot_dir`",
            desk.dir().display()
        )
    })
}

/// Lays it where the server reads it.
pub(super) async fn lay(desk: &Desk<'_>, path: &Path) -> Result<()> {
    let laid = run::from_file(call(desk, "lay"), path, &desk.site.cancel).await;
    laid.with_context(|| format!("laying the saved repository in {} there", desk.dir().display()))
}

/// Removes it; none there is well removed.
pub(super) async fn clear(desk: &Desk<'_>) -> Result<()> {
    let cleared = run::ask(call(desk, "clear"), desk.cancel()).await;
    cleared.map(drop).with_context(|| format!("removing {} there", desk.dir().display()))
}
