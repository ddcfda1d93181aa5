//! `holdfast completions`: for packagers.

use clap::{Args, CommandFactory};

use super::Context;
use super::args::Cli;
use super::failure::{Done, Exit};

/// `holdfast completions`
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: clap_complete::Shell,
}

pub(super) fn completions(context: &Context, args: CompletionsArgs) -> Done {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "holdfast", &mut text);
    context.out.write(&String::from_utf8_lossy(&text));
    Ok(Exit::Done)
}
