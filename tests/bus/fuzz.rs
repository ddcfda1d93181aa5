//! B51: random messages, 20,000 of them, a million with HOLDFAST_SOAK=1: no panic, no request that dies, bounded memory, and
//! whoever asks properly is served all the while. The seed is fixed, so what is found is found again.

use std::collections::HashMap;

use zbus::message::{Flags, Message};
use zbus::wire::Variant;

use crate::support::{Bus, Daemon, NAME, ROOT};

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// A string: a known one, or anything that D-Bus carries.
    fn text(&mut self) -> String {
        const KNOWN: [&str; 16] = [
            "",
            "nosuch",
            "off",
            "../../etc/x",
            "/etc",
            "-o",
            "--password-command=id",
            "latest:/etc",
            "a\nb",
            "\u{1b}[2J",
            "instances",
            "retention",
            "schedule",
            "url",
            "org.holdfast.Backup1.Job",
            "é\u{202e}x",
        ];
        if self.below(2) == 0 {
            return self.of(&KNOWN).to_owned();
        }
        let most = if self.below(50) == 0 { 10_000 } else { 40 };
        let length = self.below(most);
        let character = |random: &mut Self| char::from_u32(1 + u32::try_from(random.below(0x2fff)).unwrap());
        (0..length).filter_map(|_| character(self)).collect()
    }

    fn value(&mut self, depth: usize) -> Variant<'static> {
        match self.below(if depth > 6 { 6 } else { 9 }) {
            0 => self.text().into(),
            1 => self.next().into(),
            2 => (self.next() as i32).into(),
            3 => self.next().is_multiple_of(2).into(),
            4 => f64::from_bits(self.next()).into(),
            5 => vec![self.text(), self.text()].into(),
            6 => Variant::Variant(Box::new(self.value(depth + 1))),
            7 => HashMap::from([(self.text(), self.text())]).into(),
            _ => self.options(depth + 1).into(),
        }
    }

    fn options(&mut self, depth: usize) -> HashMap<String, Variant<'static>> {
        (0..self.below(4)).map(|_| (self.text(), self.value(depth))).collect()
    }

    fn message(&mut self, members: &[(String, String)], paths: &[String]) -> Message {
        let (interface, member) = &members[self.below(members.len())];
        let path = paths[self.below(paths.len())].clone();
        let call =
            Message::method_call(path, member.as_str()).destination(NAME).interface(interface.as_str());
        let call = call.with_flags(Flags::NO_REPLY_EXPECTED);
        let built = match self.below(12) {
            0 => call.build(&()),
            1 => call.build(&(self.text(),)),
            2 => call.build(&(self.text(), self.options(0))),
            3 => call.build(&(self.text(), self.text(), self.options(0))),
            4 => call.build(&(self.options(0),)),
            5 => call.build(&(self.next(),)),
            6 => call.build(&(self.value(0),)),
            7 => call.build(&(vec![self.text(), self.text()],)),
            8 => call.build(&(self.text(), self.text())),
            9 => call.build(&(self.text(), self.text(), self.value(0))),
            10 => call.build(&(vec![0_u8; self.below(5_000)],)),
            _ => call.build(&(self.text(), self.value(0))),
        };
        built.unwrap()
    }
}

/// Every method of every interface on our objects, the standard ones included; and some that are not.
async fn members(daemon: &Daemon, paths: &[String]) -> Vec<(String, String)> {
    let mut found =
        vec![(format!("{NAME}.Manager"), "Shell".to_owned()), ("no.such".into(), "Reload".into())];
    for path in paths {
        let proxy = zbus::fdo::IntrospectableProxy::builder(&daemon.bus).destination(NAME).path(path.clone());
        let Ok(xml) = proxy.build().await.unwrap().introspect().await else { continue };
        let mut interface = "";
        for line in xml.lines().map(str::trim) {
            let name = line.split('"').nth(1).unwrap_or_default();
            if line.starts_with("<interface ") {
                interface = name;
            } else if line.starts_with("<method ") {
                found.push((interface.to_owned(), name.to_owned()));
            }
        }
    }
    found
}

/// Resident memory of a process, in kB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn random_messages_neither_kill_the_daemon_nor_fill_its_memory() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let count = if std::env::var_os("HOLDFAST_SOAK").is_some() { 1_000_000 } else { 20_000 };
    let places = ["", "/backup/mybackup", "/backup/off", "/repository/local", "/instance/app_2d1", "/job/x"];
    let mut paths = places.map(|place| format!("{ROOT}{place}")).to_vec();
    paths.push("/".into());
    let members = members(&daemon, &paths).await;
    assert!(members.len() > 30, "{members:?}");
    let (mut random, sender) = (Random(20_261_121), bus.connect().await);
    let mut settled = 0;
    for sent in 1..=count {
        sender.send(&random.message(&members, &paths)).await.unwrap();
        if sent % 100 == 0 {
            let version: String = daemon.property(ROOT, "Manager", "Version").await;
            assert_eq!(version, env!("CARGO_PKG_VERSION"), "after {sent} messages");
        }
        if sent == count / 4 {
            settled = resident(daemon.pid());
        }
    }
    let after = resident(daemon.pid());
    println!("{count} messages: {settled} kB after a quarter, {after} kB at the end");
    assert!(after < settled + 30_000, "{settled} kB after a quarter, {after} kB at the end");
    let log = daemon.log();
    for bad in ["panicked", "a request died", "\u{1b}[2J"] {
        assert!(!log.contains(bad), "{bad:?} is in the log");
    }
}
