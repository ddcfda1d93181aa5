//! This test binary as another process: runs one of the ignored tests, which are written for that.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

const DIR: &str = "HOLDFAST_TEST_DIR";
const ARGUMENT: &str = "HOLDFAST_TEST_ARGUMENT";
const MARK: &str = "said: ";

/// The words of a command that runs a test of this binary alone.
pub(crate) fn words(test: &str) -> Vec<OsString> {
    let exe = std::env::current_exe().unwrap().into_os_string();
    let rest = [test, "--exact", "--ignored", "--nocapture", "--test-threads=1"];
    std::iter::once(exe).chain(rest.map(OsString::from)).collect()
}

/// A command, perhaps a wrapper such as `strace`, in front of a test of this binary.
pub(crate) fn command(wrapper: &[&str], test: &str, dir: &Path, argument: &str) -> Command {
    let mut words: Vec<OsString> = wrapper.iter().map(OsString::from).chain(self::words(test)).collect();
    let rest = words.split_off(1);
    let mut command = Command::new(&words[0]);
    command.args(rest).env(DIR, dir).env(ARGUMENT, argument);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

/// A running victim, killed when dropped.
pub(crate) struct Victim {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Victim {
    pub(crate) fn start(test: &str, dir: &Path, argument: &str) -> Self {
        let mut child = command(&[], test, dir, argument).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it says next; none: it has ended.
    pub(crate) fn hear(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some(said) = said(&line) {
                return Some(said);
            }
        }
    }

    /// Ends it politely: it sees the end of its input.
    pub(crate) fn release(&mut self) {
        drop(self.child.stdin.take());
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a line of output says. The test runner's own words may stand before it.
pub(crate) fn said(line: &str) -> Option<String> {
    line.trim_end().split_once(MARK).map(|(_, said)| said.to_owned())
}

/// In the victim: says something to the parent.
pub(crate) fn say(what: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{MARK}{what}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// In the victim: where to work, and what it was given.
pub(crate) fn given() -> (PathBuf, String) {
    (std::env::var_os(DIR).expect("run by its parent only").into(), std::env::var(ARGUMENT).unwrap())
}

/// In the victim: waits for [`Victim::release`].
pub(crate) fn wait_for_release() {
    std::io::stdin().lines().for_each(drop);
}

/// Numbers that are the same for the same seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}
