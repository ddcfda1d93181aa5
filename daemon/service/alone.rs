//! The same rooms without a bus and without a schedule, for one command: on a rescue system, or where the daemon is down.
//!
//! It takes the daemon's own lock, so that there is never more than one of them on a state directory, and puts right
//! first what dead ones left; what it leaves itself when it is killed, the next of either kind puts right.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use super::{Arguments, log, run};
use crate::control::{self, Control, Start};
use crate::job::Dirs;
use crate::process;
use crate::state::lock::DaemonLock;

/// How long what still runs may take when the command is done.
const DRAIN: Duration = Duration::from_secs(30);

/// The rooms, for as long as this lives.
pub struct Alone {
    /// What may be asked.
    pub control: Control,
    _lock: DaemonLock,
}

impl Alone {
    /// Builds the rooms. Lines go to standard error: warnings and errors, or as `HOLDFAST_LOG` says.
    ///
    /// # Errors
    /// A daemon, or another command like this, works on the state directory; or a directory cannot be used.
    pub async fn start(
        config: PathBuf,
        library: PathBuf,
        state: PathBuf,
        cache: PathBuf,
    ) -> anyhow::Result<Self> {
        log::start_with("warn,holdfast::job::undo=info");
        let runtime = runtime(&state);
        let dirs = run::absolute(Dirs { config, library, state, cache, runtime })?;
        process::ready()?;
        let state = dirs.state.clone();
        let lock = tokio::task::spawn_blocking(move || DaemonLock::take(&state)).await?;
        let _lock = lock.context("--no-daemon works only while no daemon does")?;
        Ok(Self { control: control::alone(Start { dirs }).await?, _lock })
    }

    /// Waits for what a command has started beside its job.
    pub async fn end(self) {
        self.control.drain(DRAIN).await;
    }
}

/// Where the daemon has it; below the state directory where that cannot be made.
fn runtime(state: &std::path::Path) -> PathBuf {
    let usual: Option<PathBuf> = std::env::var_os("HOLDFAST_RUNTIME").map(Into::into);
    let usual = usual.unwrap_or_else(|| Arguments::RUNTIME.into());
    match std::fs::create_dir_all(&usual) {
        Ok(()) if rustix::fs::access(&usual, rustix::fs::Access::WRITE_OK).is_ok() => usual,
        _ => state.join("run"),
    }
}
