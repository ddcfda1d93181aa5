//! `holdfast config`: checks the definition files. Asks no daemon.

use clap::Subcommand;
use serde_json::json;

use super::failure::{Done, Exit, Failure};
use super::{Context, local};
use crate::config;

/// `holdfast config`
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Check all definitions; exit code 1 when there is an error
    Check,
}

pub(super) fn config(context: &Context, verb: &Verb) -> Done {
    match verb {
        Verb::Check => check(context),
    }
}

fn check(context: &Context) -> Done {
    let (dirs, environment) = local::places(context)?;
    let (found, good) = config::check(&dirs, &environment);
    let out = &context.out;
    if out.json {
        out.value(&json!(found));
    }
    for one in found.iter().filter(|_| !out.json) {
        out.line(if out.color() { one.coloured() } else { one.rendered.clone() });
        out.line("");
    }
    let errors = found.iter().filter(|one| one.is_error()).count();
    let place = dirs.config.display();
    if !good {
        let plural = if errors == 1 { "error" } else { "errors" };
        return Err(Failure::failed(format!("{errors} {plural} in the definitions below {place}")).hint(
            "a daemon that runs keeps the previous good version of what is wrong until its next start",
        ));
    }
    if !out.json {
        out.line(format!("the definitions below {place} are good"));
    }
    Ok(Exit::Done)
}
