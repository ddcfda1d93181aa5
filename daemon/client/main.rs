//! `holdfast`: the command line; `redis-dump` and `redis-restore` when called by those names.

use std::process::ExitCode;

fn main() -> ExitCode {
    holdfast::client::main(std::env::args_os().collect())
}
