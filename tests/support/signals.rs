//! What the daemon signals, as a test hears it.

use std::time::Instant;

use futures_util::StreamExt;
use zbus::{Message, MessageStream};

use super::{DEADLINE, Row};

/// Signals of the daemon, in order.
pub struct Signals {
    stream: MessageStream,
    /// Those that have been looked at.
    pub seen: Vec<Signal>,
}

/// One signal.
#[derive(Debug, Clone)]
pub struct Signal {
    /// The object that sent it.
    pub path: String,
    /// Its name.
    pub member: String,
    /// When it was looked at.
    pub at: Instant,
    message: Message,
}

impl Signal {
    /// Its arguments.
    pub fn body<T: for<'d> zbus::wire::DynamicDeserialize<'d>>(&self) -> T {
        self.message.body().deserialize().unwrap_or_else(|e| panic!("{}: {e}", self.member))
    }

    /// Whether it is a change of this property.
    pub fn changes(&self, property: &str) -> bool {
        self.changed().is_some_and(|changed| changed.contains_key(property))
    }

    /// What it changes, if it is a change of properties.
    pub fn changed(&self) -> Option<Row> {
        let (_, changed, _): (String, Row, Vec<String>) =
            (self.member == "PropertiesChanged").then(|| self.body())?;
        Some(changed)
    }
}

impl Signals {
    pub(super) fn new(stream: MessageStream) -> Self {
        Self { stream, seen: Vec::new() }
    }

    /// The next one for which `wanted` holds; all before it are in `seen`, and it too.
    pub async fn wait(&mut self, what: &str, wanted: impl Fn(&Signal) -> bool) -> Signal {
        let found = tokio::time::timeout(DEADLINE, async {
            loop {
                let signal = self.next().await;
                if wanted(&signal) {
                    return signal;
                }
            }
        });
        match found.await {
            Ok(signal) => signal,
            Err(_) => panic!("no signal: {what}; seen: {:#?}", self.seen),
        }
    }

    async fn next(&mut self) -> Signal {
        let message = self.stream.next().await.expect("the bus lives").unwrap();
        let header = message.header();
        let signal = Signal {
            path: header.path().unwrap().to_string(),
            member: header.member().unwrap().to_string(),
            at: Instant::now(),
            message: message.clone(),
        };
        self.seen.push(signal.clone());
        signal
    }
}
