//! `holdfast config`: checks, explains and describes the definition files. Asks no daemon.

use clap::Subcommand;
use serde_json::json;

use super::failure::{Done, Exit, Failure};
use super::output::{Grid, Text, Tone};
use super::{Context, local};
use crate::config;

/// `holdfast config`
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Check all definitions; exit code 1 when there is an error
    Check,
    /// Show each effective value and where it comes from
    Explain {
        /// Only this definition: daemon, backup/NAME, repository/NAME, instance/NAME or just NAME
        definition: Option<String>,
    },
    /// Print the JSON Schema of definition files, for editors
    Schema,
}

pub(super) fn config(context: &Context, verb: &Verb) -> Done {
    match verb {
        Verb::Check => check(context),
        Verb::Explain { definition } => explain(context, definition.as_deref()),
        Verb::Schema => {
            context.out.value(&config::schema());
            Ok(Exit::Done)
        }
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

fn explain(context: &Context, definition: Option<&str>) -> Done {
    let loaded = local::definitions(context)?;
    let rows = config::explain(&loaded, definition).map_err(|why| {
        Failure::failed(why)
            .hint("`holdfast config explain` alone shows all, `holdfast config check` what is wrong")
    })?;
    if context.out.json {
        context.out.value(&json!(rows));
        return Ok(Exit::Done);
    }
    let mut grid = Grid::new(&["DEFINITION", "KEY", "VALUE", "FROM"]);
    for row in rows {
        let tone = if row.origin == "default" { Tone::Dim } else { Tone::Plain };
        grid.row([
            Text(row.definition, Tone::Strong),
            row.key.into(),
            row.value.into(),
            Text(row.origin, tone),
        ]);
    }
    context.out.grid(&grid);
    Ok(Exit::Done)
}
