//! What restic says on standard error, bounded: messages, unreadable files, retries, refusals.

use serde::Deserialize;

use crate::process::{Sign, printable};

/// How many items of a kind are kept.
const SOME: usize = 20;

/// How many bytes of messages are kept from the beginning, and as many from the end.
const HALF: usize = 2 << 10;

/// How many retries a full disk gets. restic would go on for 15 minutes, and a full disk does not empty itself.
const PATIENCE: u32 = 4;

/// What restic said on standard error.
#[derive(Debug, Default)]
pub(super) struct Notes {
    head: String,
    tail: String,
    trace: bool,
    /// The last complaint before a retry, or why it gave up.
    pub(super) retry: Option<String>,
    /// How often it tried again although a disk was full.
    full: u32,
    /// Whether the storage refused to delete.
    pub(super) refused_delete: bool,
    /// Files and directories that could not be read, at most 20.
    pub(super) unreadable: Vec<String>,
    /// Paths that were to be saved and are not there, at most 20.
    pub(super) missing: Vec<String>,
    /// Snapshots that could not be removed.
    pub(super) left: Vec<String>,
    /// Snapshots that could not be read, at most 20.
    pub(super) ignored: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
enum Message {
    Error {
        #[serde(default)]
        item: String,
        #[serde(default)]
        error: serde_json::Value,
        #[serde(default)]
        message: String,
    },
    ExitError {
        message: String,
    },
    #[serde(other)]
    Other,
}

impl Notes {
    /// Takes a line. A retry is no sign of life; a refused delete, which old restic repeats for 15 minutes, ends it,
    /// and so does a full disk.
    pub(super) fn hear(&mut self, line: &[u8]) -> Sign {
        let line = printable(line);
        if line.starts_with("{\"message_type\"") && self.hear_message(&line) {
            return Sign::Life;
        }
        self.hear_text(line.trim_end())
    }

    fn hear_message(&mut self, line: &str) -> bool {
        match serde_json::from_str(line) {
            Ok(Message::Error { item, error, message }) => {
                let reason = error.get("message").and_then(|m| m.as_str()).unwrap_or(&message);
                keep(&mut self.unreadable, if item.is_empty() { reason } else { &item });
                if item.is_empty() || !reason.is_empty() {
                    self.note(reason);
                }
                true
            }
            Ok(Message::ExitError { message }) => {
                message.lines().for_each(|l| _ = self.hear_text(l));
                true
            }
            Ok(Message::Other) | Err(_) => false,
        }
    }

    fn hear_text(&mut self, line: &str) -> Sign {
        let refused =
            line.contains("403 Forbidden") && (line.starts_with("Remove(") || line.contains("not removed"));
        self.refused_delete |= refused;
        if let Some(path) = line.strip_suffix(" does not exist, skipping") {
            keep(&mut self.missing, path);
        }
        if let Some(id) = line.strip_prefix("unable to remove snapshot/") {
            self.left.push(id.split(' ').next().unwrap_or(id).to_owned());
        }
        if line.starts_with("Ignoring ") {
            keep(&mut self.ignored, line);
        }
        if line.contains(" returned error, retrying after ") {
            self.retry = Some(line.to_owned());
            self.full += u32::from(line.contains("no space left on device"));
            return if refused || self.full >= PATIENCE { Sign::Stop } else { Sign::Nothing };
        }
        self.note(line);
        if gave_up(line) {
            self.retry = Some(line.to_owned());
            return Sign::Stop;
        }
        Sign::Life
    }

    /// Keeps a message, without Go's stack traces: a line like `main.open` and a tabbed place in the source after it.
    fn note(&mut self, line: &str) {
        let frame = |l: &str| {
            ["\t", "main.", "github.com/", "runtime.", "goroutine "].iter().any(|p| l.starts_with(p))
        };
        self.trace |= frame(line) && !self.head.is_empty();
        if line.trim().is_empty() || (self.trace && frame(line)) {
            return;
        }
        let half = if self.tail.is_empty() && self.head.len() + line.len() < HALF {
            &mut self.head
        } else {
            &mut self.tail
        };
        half.push_str(line);
        half.push('\n');
        if self.tail.len() > 2 * HALF {
            self.tail = last(&self.tail, HALF).to_owned();
        }
    }

    /// The messages, shortened in the middle when they were many.
    pub(super) fn text(&self) -> String {
        let tail = last(&self.tail, HALF);
        let gap = if tail.len() < self.tail.len() { "[…]\n" } else { "" };
        format!("{}{gap}{tail}", self.head).trim().to_owned()
    }
}

/// Whether restic could not store something for good. Its work is lost then, and it has to be ended: up to 0.18 it waits
/// for ever where the last pack was to be flushed (measured with a full disk, one run in twelve).
fn gave_up(line: &str) -> bool {
    let saved =
        ["Save(<data/", "Save(<index/", "Save(<snapshot/"].iter().any(|start| line.starts_with(start));
    saved && line.contains(">) failed: ")
}

/// At most the last `size` bytes of a text, in whole characters.
fn last(text: &str, size: usize) -> &str {
    let from = text.len().saturating_sub(size);
    (from..text.len()).find_map(|at| text.get(at..)).unwrap_or_default()
}

fn keep(list: &mut Vec<String>, item: &str) {
    if list.len() < SOME {
        list.push(item.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_kept_without_stack_traces() {
        let mut notes = Notes::default();
        for line in
            ["config file has zero size, invalid repository?", "main.open", "\tgithub.com/x/global.go:760"]
        {
            assert_eq!(notes.hear(line.as_bytes()), Sign::Life);
        }
        assert_eq!(notes.text(), "config file has zero size, invalid repository?");
        let json = br#"{"message_type":"exit_error","code":1,"message":"Fatal: no\nmain.open\n\tgithub.com/x.go:1"}"#;
        notes.hear(json);
        assert!(notes.text().ends_with("repository?\nFatal: no"), "{}", notes.text());
    }

    #[test]
    fn what_old_and_new_restic_say_of_unreadable_files_is_understood() {
        let mut notes = Notes::default();
        notes.hear(br#"{"message_type":"error","error":{"Op":"open","Path":"w/a","Err":13},"during":"archival","item":"/a"}"#);
        notes.hear(br#"{"message_type":"error","error":{"message":"/b: open b: permission denied"},"during":"archival","item":"/b"}"#);
        notes.hear(b"volumes/data/gone does not exist, skipping");
        assert_eq!(
            (notes.unreadable, notes.missing),
            (vec!["/a".into(), "/b".into()], vec!["volumes/data/gone".into()])
        );
    }

    #[test]
    fn garbage_is_text_and_a_flood_stays_small() {
        let mut notes = Notes::default();
        notes.hear(b"{\"message_type\":\"error\", half");
        notes.hear(b"\xff\xfe\x00");
        for n in 0..100_000 {
            notes.hear(format!("line {n} é").as_bytes());
        }
        let text = notes.text();
        assert!(
            text.len() < 3 * HALF && text.starts_with("{\"message_type\"") && text.ends_with("line 99999 é")
        );
    }

    #[test]
    fn a_pack_that_cannot_be_stored_ends_it_and_a_lock_does_not() {
        let mut notes = Notes::default();
        assert_eq!(
            notes.hear(b"Save(<lock/e2a2e9d82e>) failed: write /r/x: no space left on device"),
            Sign::Life
        );
        let pack = "Save(<data/e2a2e9d82e>) failed: write /r/x: no space left on device";
        assert_eq!(notes.hear(pack.as_bytes()), Sign::Stop);
        assert_eq!(notes.retry.as_deref(), Some(pack));
        assert!(notes.text().ends_with(pack));
    }

    #[test]
    fn a_full_disk_ends_the_retries() {
        let mut notes = Notes::default();
        let retry =
            b"Load(<index/1>) returned error, retrying after 1s: Copy: write /c/x: no space left on device";
        let signs: Vec<_> = (0..PATIENCE).map(|_| notes.hear(retry)).collect();
        assert_eq!(signs, [Sign::Nothing, Sign::Nothing, Sign::Nothing, Sign::Stop]);
    }

    #[test]
    fn a_refused_delete_ends_the_retries() {
        let mut notes = Notes::default();
        let retry = "Remove(<snapshot/1>) returned error, retrying after 1s: blob not removed, server response: 403 Forbidden (403)";
        assert_eq!(notes.hear(b"Load(<x>) returned error, retrying after 1s: EOF"), Sign::Nothing);
        assert!(!notes.refused_delete);
        assert_eq!(notes.hear(retry.as_bytes()), Sign::Stop);
        assert!(notes.refused_delete);
    }
}
