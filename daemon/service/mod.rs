//! The daemon as systemd sees it: builds the rooms, says when it is ready, waits for signals, drains.

mod alone;
mod log;
mod metrics;
mod notify;
mod run;

pub use alone::Alone;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::bus::Address;
use crate::job::Dirs;

/// The exit code for definitions or a place that only a person can mend: the unit is not restarted then.
const EX_CONFIG: u8 = 78;

/// Backup daemon: runs the backups defined in TOML on its own schedule and answers on D-Bus.
#[derive(Debug, Clone, Parser)]
#[command(name = "holdfastd", version)]
pub struct Arguments {
    /// Directory of the definitions.
    #[arg(long, env = "HOLDFAST_CONFIG", default_value = "/etc/holdfast")]
    pub config: PathBuf,
    /// Directory of the state.
    #[arg(long, env = "HOLDFAST_STATE", default_value = "/var/lib/holdfast")]
    pub state: PathBuf,
    /// Directory of restic's caches.
    #[arg(long, env = "HOLDFAST_CACHE", default_value = "/var/cache/holdfast")]
    pub cache: PathBuf,
    /// Directory for what lives as long as the daemon.
    #[arg(long, env = "HOLDFAST_RUNTIME", default_value = Self::RUNTIME)]
    pub runtime: PathBuf,
    /// Directory of the shipped module library.
    #[arg(long, env = "HOLDFAST_LIBRARY", default_value = "/usr/share/holdfast/modules")]
    pub library: PathBuf,
    /// The bus: `system`, `session` or a D-Bus address.
    #[arg(long, env = "HOLDFAST_BUS", default_value = "system")]
    pub bus: Address,
    /// How long running jobs have to end when the daemon is stopped, in seconds.
    #[arg(long, env = "HOLDFAST_DRAIN", default_value_t = 60)]
    pub drain: u64,
}

impl Arguments {
    const RUNTIME: &str = "/run/holdfast";

    fn dirs(&self) -> Dirs {
        Dirs {
            config: self.config.clone(),
            library: self.library.clone(),
            state: self.state.clone(),
            cache: self.cache.clone(),
            runtime: self.runtime.clone(),
        }
    }
}

/// Runs the daemon until it is stopped.
pub fn main(arguments: Arguments) -> ExitCode {
    log::start();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(failure) => return refused(&anyhow::Error::new(failure).context("starting the runtime")),
    };
    match runtime.block_on(run::run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => refused(&failure),
    }
}

fn refused(failure: &anyhow::Error) -> ExitCode {
    tracing::error!("{failure:#}");
    ExitCode::from(if failure.is::<run::NeedsPerson>() { EX_CONFIG } else { 1 })
}
