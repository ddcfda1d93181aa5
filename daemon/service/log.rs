//! Where lines go: to the journal when there is one, otherwise to standard error.

use std::io::IsTerminal;

use tracing::Level;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// tokio-cron-scheduler's own lines say nothing to an administrator.
const DEFAULT_FILTER: &str = "info,tokio_cron_scheduler=error,zbus=warn";

/// Starts logging. `HOLDFAST_LOG` sets the filter: levels and `target=level`, with commas.
pub(super) fn start() {
    start_with(DEFAULT_FILTER);
}

/// The same with another filter where `HOLDFAST_LOG` says none.
pub(super) fn start_with(default: &str) {
    let asked = std::env::var("HOLDFAST_LOG").ok().filter(|text| !text.is_empty());
    let filter: Option<Targets> = asked.as_ref().and_then(|text| text.parse().ok());
    let refused = asked.filter(|_| filter.is_none());
    let filter = filter.or_else(|| default.parse().ok()).unwrap_or_default();
    let registry = tracing_subscriber::registry().with(filter);
    match journal() {
        Some(journal) => registry.with(journal).init(),
        None => registry.with(stderr()).init(),
    }
    if let Some(text) = refused {
        tracing::warn!(
            "HOLDFAST_LOG={text:?} is not understood; write for example `debug` or `info,zbus=debug`"
        );
    }
}

/// The journal, when systemd connected our standard error to it (`JOURNAL_STREAM`, systemd.exec(5)).
fn journal() -> Option<tracing_journald::Layer> {
    std::env::var_os("JOURNAL_STREAM")?;
    let priorities = PriorityMappings {
        error: Priority::Error,
        warn: Priority::Warning,
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
    };
    let layer = tracing_journald::layer().ok()?;
    let layer = layer.with_field_prefix(None).with_syslog_identifier("holdfastd".into());
    Some(layer.with_priority_mappings(priorities))
}

fn stderr<S>() -> impl tracing_subscriber::Layer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_target(tracing::enabled!(Level::DEBUG))
}
