//! `holdfast`, the command line: a thin client of the bus. One file per command.
//!
//! `args` is the definition of the command line (help, completions and man pages come from it), `daemon` holds the
//! proxies, `wire` turns what comes over the bus into rows, `follow` and `progress` watch a job, `format` and `output`
//! show things, `failure` names what went wrong and the exit code.

mod alone;
mod args;
mod ask;
mod backup;
mod cancel;
mod check;
mod config;
mod daemon;
mod discover;
mod export;
mod failure;
mod follow;
mod format;
mod generate;
mod given;
mod history;
mod import;
mod init;
mod key;
mod keys;
mod local;
mod logs;
mod look;
mod manual;
mod output;
mod pause;
mod pin;
mod plan;
mod progress;
mod prune;
mod recover;
pub mod redis_key;
mod reload;
mod repository;
mod restic;
mod restore;
mod rollback;
mod run;
mod schedule;
mod setup;
mod snapshots;
mod status;
mod unlock;
mod watchdog;
mod wire;

use std::cell::OnceCell;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use args::{Cli, Command};
use daemon::Daemon;
use failure::{Done, Failure};
use format::Here;
use output::Out;
use watchdog::watched;

/// What every command gets: where the daemon and its files are, and where to write.
struct Context {
    bus: String,
    config: PathBuf,
    state: PathBuf,
    cache: PathBuf,
    library: PathBuf,
    out: Out,
    here: Here,
    /// To the daemon, once there is one: the watchdog asks over it.
    connection: OnceCell<zbus::Connection>,
}

impl Context {
    async fn daemon(&self) -> Result<Daemon, Failure> {
        let daemon = Daemon::connect(&self.bus).await?;
        // A second one goes over a connection to the same bus.
        let _ = self.connection.set(daemon.connection.clone());
        Ok(daemon)
    }

    #[cfg(test)]
    fn for_test(out: Out) -> Self {
        let nowhere = PathBuf::from("/nowhere");
        let bus = "unix:path=/nowhere".to_owned();
        Self {
            bus,
            config: nowhere.clone(),
            state: nowhere.clone(),
            cache: nowhere.clone(),
            library: nowhere,
            out,
            here: Here::now(),
            connection: OnceCell::new(),
        }
    }
}

/// Runs the program with its arguments, the first being its own name.
pub fn main(args: Vec<OsString>) -> ExitCode {
    if let Some(done) = redis_key::called_as(&args) {
        return done;
    }
    match Cli::try_parse_from(args) {
        Ok(cli) => start(cli),
        Err(error) => args::explain(&error),
    }
}

fn start(cli: Cli) -> ExitCode {
    let args::Global { bus, json, color, config, state, cache, library } = cli.global;
    let (out, here, connection) = (Out::new(json, color), Here::now(), OnceCell::new());
    let context = Context { bus, config, state, cache, library, out, here, connection };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(watched(&context, dispatch(&context, cli.command)));
            // A question that nobody answers any more must not hold us up for long.
            runtime.shutdown_timeout(Duration::from_secs(2));
            done
        }
        Err(error) => Err(Failure::failed(format!("starting the runtime: {error}"))),
    };
    let done = done.and_then(|exit| context.out.finish().map(|()| exit));
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => {
            context.out.failure(&failure);
            failure.exit.into()
        }
    }
}

#[expect(clippy::cognitive_complexity, reason = "one arm for each command")]
async fn dispatch(context: &Context, command: Command) -> Done {
    match command {
        Command::Status => status::status(context).await,
        Command::Init(args) => init::init(context, *args).await,
        Command::Run(args) => run::run(context, args).await,
        Command::Cancel(args) => cancel::cancel(context, args).await,
        Command::Restore(args) => restore::restore(context, args).await,
        Command::Recover(args) => recover::recover(context, args).await,
        Command::Rollback(args) => rollback::rollback(context, args).await,
        Command::Plan(args) => plan::plan(context, args).await,
        Command::Snapshots(args) => snapshots::snapshots(context, args).await,
        Command::Pin(args) => pin::pin(context, args).await,
        Command::Unpin(args) => pin::unpin(context, args).await,
        Command::Ls(args) => look::ls(context, args).await,
        Command::Find(args) => look::find(context, args).await,
        Command::Cat(args) => look::cat(context, args).await,
        Command::Export(args) => export::export(context, args).await,
        Command::Import(args) => import::import(context, args).await,
        Command::History(args) => history::history(context, args).await,
        Command::Backup { verb } => backup::backup(context, verb).await,
        Command::Repository { verb } => repository::repository(context, verb).await,
        Command::Logs(args) => logs::logs(context, args).await,
        Command::Config { verb } => config::config(context, &verb),
        Command::Discover => discover::discover(context).await,
        Command::Setup(args) => setup::setup(context, args).await,
        Command::Schedule(args) => schedule::schedule(context, args),
        Command::Prune(args) => prune::prune(context, args).await,
        Command::Check(args) => check::check(context, args).await,
        Command::Unlock(args) => unlock::unlock(context, args).await,
        Command::Restic(args) => restic::restic(context, args).await,
        Command::Pause(args) => pause::pause(context, args).await,
        Command::Resume => pause::resume(context).await,
        Command::Reload => reload::reload(context).await,
        Command::Completions(args) => generate::completions(context, args),
        Command::Man(args) => manual::man(context, args),
    }
}
