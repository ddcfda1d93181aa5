//! What systemd is told: ready, reloading, status line, watchdog, stopping. Without systemd each call is nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// How often a start that takes long is told.
const STARTING: Duration = Duration::from_secs(30);

/// Says that the daemon is ready.
pub(super) fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// Says that definitions are being read anew; [`ready`] ends it.
pub(super) fn reloading() {
    let Ok(now) = NotifyState::monotonic_usec_now() else { return };
    send(&[NotifyState::Reloading, now]);
}

/// Says what the daemon is doing now.
pub(super) fn status(status: &str) {
    send(&[NotifyState::Status(&one_line(status))]);
}

/// Says that the daemon is stopping and may need this long.
pub(super) fn stopping(within: Duration) {
    let micros = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
    send(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros), NotifyState::Status("stopping")]);
}

/// Says from time to time that the start takes longer, until dropped: what a marker asks for is restored in it, and that
/// may be large.
pub(super) async fn starting() {
    let mut tick = tokio::time::interval(STARTING);
    loop {
        tick.tick().await;
        let micros = u32::try_from((STARTING * 3).as_micros()).unwrap_or(u32::MAX);
        send(&[NotifyState::ExtendTimeoutUsec(micros), NotifyState::Status("starting")]);
    }
}

/// Pets the watchdog at half its interval, from the runtime that does the work, until dropped.
pub(super) async fn watchdog() {
    let Some(interval) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut tick = tokio::time::interval(interval / 2);
    loop {
        tick.tick().await;
        send(&[NotifyState::Watchdog]);
    }
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(failure) = sd_notify::notify(state) {
        tracing::debug!("systemd could not be told: {failure}");
    }
}

/// A newline in a status would begin a new assignment (`READY=1`).
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
