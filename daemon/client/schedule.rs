//! `holdfast schedule`: what an expression means and when it comes due. Asks no daemon.

use clap::Args;
use jiff::tz::TimeZone;
use serde_json::json;

use super::Context;
use super::failure::{Done, Exit, Failure};
use super::format::relative;
use crate::calendar::{Explanation, ParseError, explain};

/// `holdfast schedule`
#[derive(Debug, Args)]
pub(super) struct ScheduleArgs {
    /// The expression: daily, "Mon..Fri 02:30", "every 6h", "*/15 * * * *"
    expression: String,
    /// The zone that it is read in, such as Europe/Rome; default: this machine's
    #[arg(long)]
    zone: Option<String>,
    /// Show what comes after this time; default: now
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// How many times to show
    #[arg(short = 'n', long = "limit", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    limit: u16,
}

pub(super) fn schedule(context: &Context, args: ScheduleArgs) -> Done {
    let zone = zone(args.zone.as_deref(), context)?;
    let from = match &args.from {
        Some(from) => context.here.parse(from).map_err(Failure::usage)?,
        None => context.here.now,
    };
    let found = explain(&args.expression, &zone, from, args.limit.into());
    let found = found.map_err(|error| refused(&args.expression, &error))?;
    if context.out.json {
        context.out.value(&json!(found));
    } else {
        lines(&found, context).iter().for_each(|line| context.out.line(line));
    }
    Ok(Exit::Done)
}

fn zone(name: Option<&str>, context: &Context) -> Result<TimeZone, Failure> {
    let Some(name) = name else { return Ok(context.here.zone.clone()) };
    TimeZone::get(name).map_err(|_| {
        Failure::usage(format!("there is no time zone `{name}`"))
            .hint("write an IANA name such as Europe/Rome or UTC")
    })
}

fn lines(found: &Explanation, context: &Context) -> Vec<String> {
    let mut lines = vec![format!("{} ({})", found.sentence, found.normal)];
    if found.next.is_empty() {
        lines.push("  never again".to_owned());
    }
    for slot in &found.next {
        let age = relative(context.here.now, slot.timestamp());
        lines.push(format!("  {} ({age})", slot.strftime("%a %Y-%m-%d %H:%M:%S %Z")));
    }
    lines
}

/// An expression longer than this is not shown with its error.
const LONGEST_SHOWN: usize = 200;

/// The expression with the wrong part underlined.
pub(super) fn refused(expression: &str, error: &ParseError) -> Failure {
    let before = expression.get(..error.offset).unwrap_or(expression).chars().count();
    let end = error.offset.saturating_add(error.len);
    let width = expression.get(error.offset..end).map_or(1, |part| part.chars().count()).max(1);
    let shown = if expression.contains(char::is_control) || expression.len() > LONGEST_SHOWN {
        String::new()
    } else {
        format!("\n  {expression}\n  {}{}", " ".repeat(before), "^".repeat(width))
    };
    let failure = Failure::failed(format!("{}{shown}", error.message));
    match &error.help {
        Some(help) => failure.hint(help),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wrong_part_is_underlined() {
        let error =
            ParseError { message: "no such day".into(), offset: 4, len: 3, help: Some("write Fri".into()) };
        let failure = refused("Mon,Fry 02:30", &error);
        assert_eq!(failure.message, "no such day\n  Mon,Fry 02:30\n      ^^^");
        assert_eq!(failure.hint.as_deref(), Some("write Fri"));
    }

    #[test]
    fn an_offset_beyond_the_end_harms_nothing() {
        let error = ParseError { message: "ends too soon".into(), offset: 99, len: 1, help: None };
        assert!(refused("Möntag", &error).message.ends_with('^'));
    }
}
