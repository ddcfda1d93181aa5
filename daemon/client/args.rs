//! The command line as data: help, completions and man pages come from here.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand};

use super::failure::{Exit, Failure};
use super::output::{Out, When};
use super::{
    backup, cancel, check, config, export, generate, history, import, init, logs, look, manual, pause, pin,
    plan, prune, recover, repository, restic, restore, rollback, run, schedule, setup, snapshots, unlock,
};

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 usage, 3 done with warnings, 4 no daemon, 5 not authorised, \
    130 cancelled.";

/// Commands that the design names and that this version does not have.
const NOT_YET: [&str; 2] = ["drill", "bootstrap"];

/// Backups of this machine: what is, what was, what to do
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, after_help = EXIT_CODES, max_term_width = 100, disable_help_subcommand = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// The bus that the daemon is on: system, session or an address
    #[arg(long, global = true, env = "HOLDFAST_BUS", default_value = "system", hide_env_values = true)]
    pub(super) bus: String,
    /// Where the definitions are, for what is done without a daemon
    #[arg(long, global = true, value_name = "DIR", env = "HOLDFAST_CONFIG", default_value = "/etc/holdfast")]
    #[arg(hide_env_values = true)]
    pub(super) config: PathBuf,
    /// Where the daemon keeps its state, for what is done without a daemon
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "HOLDFAST_STATE",
        default_value = "/var/lib/holdfast"
    )]
    #[arg(hide_env_values = true)]
    pub(super) state: PathBuf,
    /// Where restic's caches are, for what is done without a daemon
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "HOLDFAST_CACHE",
        default_value = "/var/cache/holdfast"
    )]
    #[arg(hide_env_values = true)]
    pub(super) cache: PathBuf,
    /// Where the shipped module library is, for what is done without a daemon
    #[arg(long, global = true, value_name = "DIR", env = "HOLDFAST_LIBRARY", hide = true)]
    #[arg(default_value = "/usr/share/holdfast/modules")]
    pub(super) library: PathBuf,
    /// Print JSON, with the keys and numbers of the bus
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Colour the output: auto, always or never
    #[arg(long, global = true, value_enum, default_value_t = When::Auto, value_name = "WHEN")]
    #[arg(hide_possible_values = true)]
    pub(super) color: When,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show what is defined, what runs, what comes next and what is not well
    Status,
    /// Begin: define what is backed up, where and when, and make the first backup
    Init(Box<init::InitArgs>),
    /// Run a backup now and follow it
    Run(run::RunArgs),
    /// Cancel a running job
    Cancel(cancel::CancelArgs),
    /// Restore an instance, in place or into a directory
    Restore(restore::RestoreArgs),
    /// Put back what the last restore of an instance replaced
    Rollback(rollback::RollbackArgs),
    /// Restore the newest fit set of an instance whose unit has failed, and start the unit
    Recover(recover::RecoverArgs),
    /// Say what a restore would do, and touch nothing
    Plan(plan::PlanArgs),
    /// List the snapshots of an instance
    Snapshots(snapshots::SnapshotsArgs),
    /// Let no retention forget a snapshot
    Pin(pin::PinArgs),
    /// Let retention decide over a snapshot again
    Unpin(pin::PinArgs),
    /// List what is in a snapshot, without a daemon
    Ls(look::LsArgs),
    /// Look for names in a snapshot, without a daemon
    Find(look::FindArgs),
    /// Print a file of a snapshot, without a daemon
    Cat(look::CatArgs),
    /// Write a snapshot into one archive, without a daemon
    Export(export::ExportArgs),
    /// Make snapshots of archives: our exports, those of other tools, any tar; or of a directory of MicroShift
    Import(import::ImportArgs),
    /// List the jobs of the past, newest first
    History(history::HistoryArgs),
    /// Show the journal of a job
    Logs(logs::LogsArgs),
    /// List, show and define backups
    Backup {
        #[command(subcommand)]
        verb: backup::Verb,
    },
    /// List, show and define repositories
    Repository {
        #[command(subcommand)]
        verb: repository::Verb,
    },
    /// Check and explain the definition files, without a daemon
    Config {
        #[command(subcommand)]
        verb: config::Verb,
    },
    /// Show the compose projects whose labels ask for a backup, as definitions, without a daemon
    Discover,
    /// Make the machine of an instance reachable over ssh: keys, sudo, and a trial of all of it; without a daemon
    Setup(setup::SetupArgs),
    /// Explain a schedule expression, without a daemon
    Schedule(schedule::ScheduleArgs),
    /// Remove unused data from a repository
    Prune(prune::PruneArgs),
    /// Check a repository for damage
    Check(check::CheckArgs),
    /// Remove stale locks of this machine from a repository
    Unlock(unlock::UnlockArgs),
    /// Run restic on an instance's repository, without a daemon
    Restic(restic::ResticArgs),
    /// Let no schedule run anything, for a time or until resumed
    Pause(pause::PauseArgs),
    /// End a pause
    Resume,
    /// Read the definitions anew
    Reload,
    /// Print the completions for a shell
    #[command(hide = true)]
    Completions(generate::CompletionsArgs),
    /// Write the man pages into a directory
    #[command(hide = true)]
    Man(manual::ManArgs),
}

/// Says what was wrong with the command line, or prints the help that was asked for.
pub(super) fn explain(error: &clap::Error) -> ExitCode {
    if let Some(name) = not_yet(error) {
        let failure = Failure::usage(format!("`holdfast {name}` is not supported yet in this version"))
            .hint("`holdfast --help` lists what is");
        Out::new(false, When::Auto).failure(&failure);
        return failure.exit.into();
    }
    let _ = error.print();
    if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() }
}

fn not_yet(error: &clap::Error) -> Option<&str> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(name)) if NOT_YET.contains(&name.as_str()) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_of_a_later_version_is_named_as_such_and_not_listed() {
        let help = Cli::command().render_help().to_string();
        for name in NOT_YET {
            let error = Cli::try_parse_from(["holdfast", name, "x"]).unwrap_err();
            assert_eq!(not_yet(&error), Some(name));
            assert!(!help.contains(&format!("\n  {name} ")), "{name} is listed");
        }
        assert_eq!(not_yet(&Cli::try_parse_from(["holdfast", "staus"]).unwrap_err()), None);
    }
}
