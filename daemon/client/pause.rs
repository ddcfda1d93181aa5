//! `holdfast pause` and `holdfast resume`.

use clap::Args;
use serde_json::json;

use super::Context;
use super::daemon::Daemon;
use super::failure::{Done, Exit, Failure};
use super::format::parse_duration;

/// `holdfast pause`
#[derive(Debug, Args)]
pub(super) struct PauseArgs {
    /// For how long, such as 90s, 15m, 6h or 30d; default: until resumed
    duration: Option<String>,
}

pub(super) async fn pause(context: &Context, args: PauseArgs) -> Done {
    let seconds = args.duration.as_deref().map_or(Ok(0), seconds)?;
    let daemon = context.daemon().await?;
    daemon.manager.pause(seconds).await.map_err(|error| daemon.failure(error))?;
    let until = match args.duration {
        Some(duration) => format!("for {duration}"),
        None => "until `holdfast resume`".to_owned(),
    };
    show(context, &daemon, &format!("paused {until}: no schedule runs anything, `holdfast run` still does"))
        .await
}

pub(super) async fn resume(context: &Context) -> Done {
    let daemon = context.daemon().await?;
    daemon.manager.resume().await.map_err(|error| daemon.failure(error))?;
    show(context, &daemon, "schedules run again").await
}

async fn show(context: &Context, daemon: &Daemon, text: &str) -> Done {
    if context.out.json {
        context.out.value(&json!({ "Paused": daemon.overview().await?.json()["Paused"] }));
    } else {
        context.out.line(text);
    }
    Ok(Exit::Done)
}

/// Whole seconds; a pause of none would be one without end.
fn seconds(text: &str) -> Result<u64, Failure> {
    let duration = parse_duration(text).map_err(Failure::usage)?;
    match u64::try_from(duration.as_secs()) {
        Ok(seconds) if seconds > 0 => Ok(seconds),
        _ => Err(Failure::usage(format!("`{text}` is shorter than a second"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_of_nothing_is_refused_because_zero_means_for_ever() {
        assert_eq!(seconds("15m").unwrap(), 900);
        for bad in ["0s", "10ms", "-5m", "soon"] {
            assert_eq!(seconds(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }
}
