//! Those who call as others, and a scripted authority on the private bus that they are judged by.

use std::collections::HashMap;
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use zbus::wire::OwnedVariant;
use zbus::{Connection, interface};

use crate::support::{Bus, NAME, ROOT, stderr, stdout};

/// The interface that most is asked of.
pub(crate) const MANAGER: &str = "org.holdfast.Backup1.Manager";

/// What the authority says.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Says {
    Yes,
    No,
    Password,
    Never,
    /// Nothing until another answer is set.
    Held,
}

/// A question as it came: kind of subject, its name on the bus, action, object, flags.
pub(crate) type Question = (String, String, String, String, u32);

#[derive(Clone)]
pub(crate) struct Authority {
    pub(crate) says: Arc<Mutex<HashMap<&'static str, Says>>>,
    pub(crate) asked: Arc<Mutex<Vec<Question>>>,
    pub(crate) withdrawn: Arc<Mutex<Vec<String>>>,
}

#[interface(name = "org.freedesktop.PolicyKit1.Authority")]
impl Authority {
    async fn check_authorization(
        &self,
        subject: (String, HashMap<String, OwnedVariant>),
        action: String,
        details: HashMap<String, String>,
        flags: u32,
        _cancellation: String,
    ) -> ((bool, bool, HashMap<String, String>),) {
        let name: String = subject.1["name"].try_clone().unwrap().try_into().unwrap();
        let word = action.rsplit('.').next().unwrap().to_owned();
        self.asked.lock().unwrap().push((subject.0, name, action, details["object"].clone(), flags));
        let answer = || self.says.lock().unwrap().get(word.as_str()).copied().unwrap_or(Says::No);
        while answer() == Says::Held {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let says = answer();
        if says == Says::Never {
            std::future::pending::<()>().await;
        }
        ((says == Says::Yes, says == Says::Password, HashMap::new()),)
    }

    fn cancel_check_authorization(&self, cancellation: String) {
        self.withdrawn.lock().unwrap().push(cancellation);
    }
}

/// An authority on the bus that says this of each action, and no to the others.
pub(crate) async fn authority(bus: &Bus, says: &[(&'static str, Says)]) -> (Authority, Connection) {
    let says = Arc::new(Mutex::new(says.iter().copied().collect()));
    let authority = Authority { says, asked: Arc::default(), withdrawn: Arc::default() };
    let connection = bus.connect().await;
    let path = "/org/freedesktop/PolicyKit1/Authority";
    connection.object_server().at(path, authority.clone()).await.unwrap();
    connection.request_name("org.freedesktop.PolicyKit1").await.unwrap();
    (authority, connection)
}

/// `busctl` as nobody; interaction is not allowed.
pub(crate) fn as_nobody(bus: &Bus, arguments: &[&str]) -> Output {
    as_one_of(bus, "--clear-groups", arguments)
}

/// `busctl` as nobody in the daemon's group (`units/holdfast.sysusers`).
pub(crate) fn as_member(bus: &Bus, arguments: &[&str]) -> Output {
    as_one_of(bus, &format!("--groups={}", gid()), arguments)
}

fn as_one_of(bus: &Bus, groups: &str, arguments: &[&str]) -> Output {
    let mut setpriv = bus.command("setpriv");
    setpriv.args(["--reuid=65534", "--regid=65534", groups, "busctl"]);
    setpriv.arg(format!("--address={}", bus.address)).arg("--allow-interactive-authorization=no");
    setpriv.args(arguments).output().unwrap()
}

/// The id of the daemon's group.
pub(crate) fn gid() -> String {
    let group = std::fs::read_to_string("/etc/group").unwrap();
    let line = group.lines().find(|line| line.starts_with("holdfast:")).expect("the group holdfast exists");
    line.split(':').nth(2).unwrap().to_owned()
}

/// A call of the Manager as nobody.
pub(crate) fn manager(bus: &Bus, arguments: &[&str]) -> Output {
    as_nobody(bus, &[&["call", NAME, ROOT, MANAGER], arguments].concat())
}

/// `RunBackup` as nobody.
pub(crate) fn run(bus: &Bus, backup: &str) -> Output {
    manager(bus, &["RunBackup", "sa{sv}", backup, "0"])
}

/// The job that a call answered.
pub(crate) fn job_of(output: &Output) -> String {
    let text = stdout(output);
    text.split('"').nth(1).unwrap_or_else(|| panic!("no job in {text:?} {}", stderr(output))).to_owned()
}
