//! polkit, asked about a caller. Only a clear yes is a yes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use zbus::Connection;
use zbus::message::{Flags, Header};
use zbus::wire::Variant;

const NAME: &str = "org.freedesktop.PolicyKit1";
const PATH: &str = "/org/freedesktop/PolicyKit1/Authority";
const INTERFACE: &str = "org.freedesktop.PolicyKit1.Authority";

/// How long polkit may think when it has nobody to ask.
const THINK: Duration = Duration::from_secs(5);

/// How long a person may take to type a password.
pub(super) const PERSON: Duration = Duration::from_secs(120);

/// What polkit said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Yes,
    No,
    /// Yes with a password, which nobody could be asked for.
    Password,
    /// Not there, an error, or too late.
    Silent,
}

type Answer = ((bool, bool, HashMap<String, String>),);

/// Asks about the sender of a call: the subject is its unique name on the bus, which is never given to another. A dialog only
/// where the caller allows one.
pub(super) async fn ask(
    connection: &Connection,
    header: &Header<'_>,
    action: &str,
    name: &str,
    limit: Option<Duration>,
) -> Verdict {
    let Some(sender) = header.sender() else { return Verdict::No };
    let dialog = limit.is_none() && header.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
    let limit = limit.unwrap_or(if dialog { PERSON } else { THINK });
    let subject = ("system-bus-name", HashMap::from([("name", Variant::from(sender.as_str()))]));
    let details = HashMap::from([("object", name)]);
    let id = cancellation();
    let question =
        (subject, format!("org.holdfast.backup1.{action}"), details, u32::from(dialog), id.as_str());
    let answer = connection.call_method(Some(NAME), PATH, Some(INTERFACE), "CheckAuthorization", &question);
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(reply)) => verdict(&reply),
        Ok(Err(error)) => {
            tracing::warn!(%error, "polkit cannot be asked: only root and those named in definitions may");
            Verdict::Silent
        }
        Err(_) => {
            tracing::warn!("polkit did not answer within {} s: taken for a no", limit.as_secs());
            withdraw(connection, &id).await;
            Verdict::Silent
        }
    }
}

fn verdict(reply: &zbus::Message) -> Verdict {
    match reply.body().deserialize::<Answer>() {
        Ok(((true, _, _),)) => Verdict::Yes,
        Ok(((false, true, _),)) => Verdict::Password,
        Ok(((false, false, _),)) => Verdict::No,
        Err(error) => {
            tracing::warn!(%error, "polkit's answer is not understood: taken for a no");
            Verdict::Silent
        }
    }
}

/// Takes a question back, so that no dialog stays open; nobody waits for the answer.
async fn withdraw(connection: &Connection, id: &str) {
    let call = zbus::Message::method_call(PATH, "CancelCheckAuthorization");
    let call = call.destination(NAME).interface(INTERFACE).with_flags(Flags::NO_REPLY_EXPECTED).build(&(id,));
    if let Ok(call) = call {
        let _ = connection.send(&call).await;
    }
}

fn cancellation() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("holdfast-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
