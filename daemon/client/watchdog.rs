//! No command waits for ever: while one is at work, the daemon that it talks to is asked now and then whether it lives.
//!
//! A limit for each call would not do: a restic behind it may take minutes, and a person typing a password as well. What
//! is not answered by a daemon that lives is bounded by the daemon (`bus/answer.rs`).

use std::time::Duration;

use zbus::Connection;
use zbus::proxy::{CacheProperties, MethodFlags};

use super::Context;
use super::failure::{Done, Failure};
use super::wire::{ROOT, SERVICE};

/// How long nothing is asked.
const EVERY: Duration = Duration::from_secs(5);

/// How long the daemon may take to say that it lives, the first and the second time.
const PATIENCE: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(5)];

/// Does what a command does, and ends it with exit code 4 once its daemon no longer answers.
pub(super) async fn watched(context: &Context, command: impl Future<Output = Done>) -> Done {
    tokio::select! {
        done = command => done,
        failure = silence(context) => Err(failure),
    }
}

async fn silence(context: &Context) -> Failure {
    loop {
        tokio::time::sleep(EVERY).await;
        if let Some(connection) = context.connection.get()
            && !answers(connection).await
        {
            let seconds = PATIENCE.iter().chain([&EVERY]).map(Duration::as_secs).sum::<u64>();
            let why = format!("it has not answered for {seconds} s; what was asked of it may still happen");
            return Failure::no_daemon(&context.bus, &why);
        }
    }
}

/// Asked twice: after a prompt that held up this whole program, the first answer may lie there unread.
async fn answers(connection: &Connection) -> bool {
    for patience in PATIENCE {
        if tokio::time::timeout(patience, ping(connection)).await.is_ok() {
            return true;
        }
    }
    false
}

/// Any answer is one: an error comes from a bus that lives, and what waits for the daemon hears of it too. It is not
/// started for this: a start under way has its own limits.
async fn ping(connection: &Connection) -> zbus::Result<()> {
    let peer = zbus::proxy::Builder::<zbus::Proxy<'_>>::new(connection)
        .destination(SERVICE)
        .path(ROOT)
        .interface("org.freedesktop.DBus.Peer")
        .cache_properties(CacheProperties::No)
        .build()
        .await?;
    peer.call_with_flags::<_, _, ()>("Ping", MethodFlags::NO_AUTO_START, &()).await.map(drop)
}
