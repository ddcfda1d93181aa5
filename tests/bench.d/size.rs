//! How large the programs are.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::lab::{CLIENT, DAEMON};
use super::numbers::megabytes;
use super::table::Table;

/// Measures the files as built, and without what only debuggers need, as packages carry them.
pub(crate) fn measure(table: &mut Table) -> Result<()> {
    let dir = tempfile::tempdir()?;
    for (name, path) in [("holdfastd", DAEMON), ("holdfast", CLIENT)] {
        let built = std::fs::metadata(path).with_context(|| path.to_owned())?.len();
        let bare = dir.path().join(name);
        let status = Command::new("strip").args(["-o".as_ref(), bare.as_os_str(), path.as_ref()]).status()?;
        ensure!(status.success(), "strip {path} failed");
        let stripped = std::fs::metadata(&bare)?.len();
        let figure =
            format!("{:.1} MB, stripped {:.1} MB", megabytes(built / 1024), megabytes(stripped / 1024));
        table.plain(&format!("size of {name}"), figure);
    }
    Ok(())
}
