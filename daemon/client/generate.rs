//! `holdfast completions` and `holdfast man`: for packagers.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use super::Context;
use super::args::Cli;
use super::failure::{Done, Exit, Failure};

/// `holdfast completions`
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: clap_complete::Shell,
}

/// `holdfast man`
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The directory; it must exist
    directory: PathBuf,
}

pub(super) fn completions(context: &Context, args: CompletionsArgs) -> Done {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "holdfast", &mut text);
    context.out.write(&String::from_utf8_lossy(&text));
    Ok(Exit::Done)
}

pub(super) fn man(context: &Context, args: ManArgs) -> Done {
    let directory = args.directory.display();
    clap_mangen::generate_to(Cli::command(), &args.directory)
        .map_err(|error| Failure::failed(format!("writing man pages into {directory}: {error}")))?;
    context.out.note(format!("the man pages are in {directory}"));
    Ok(Exit::Done)
}
