//! Why a command did not do what was asked: a sentence, a hint and an exit code.

use std::process::ExitCode;

use zbus::fdo;

use super::wire::SERVICE;

/// Exit codes: a contract with scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// 0: everything asked for was done.
    Done,
    /// 1: it was tried and failed, or was refused.
    Failed,
    /// 2: the command line was not understood.
    Usage,
    /// 3: done, but something needs a look.
    Warning,
    /// 4: no daemon answers.
    NoDaemon,
    /// 5: the daemon or the bus refuses this caller.
    NotAuthorized,
    /// 130: the job was cancelled.
    Cancelled,
    /// Of a program that was run in our place.
    Program(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl Exit {
    const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Warning => 3,
            Self::NoDaemon => 4,
            Self::NotAuthorized => 5,
            Self::Cancelled => 130,
            Self::Program(code) => code,
        }
    }

    /// The exit code of a program that was run in our place.
    pub(super) fn of_program(code: i32) -> Self {
        u8::try_from(code).map_or(Self::Failed, Self::Program)
    }

    /// The exit code for a job's outcome; an unknown word counts as failed.
    pub(super) fn of_outcome(outcome: &str) -> Self {
        match outcome {
            "succeeded" | "skipped" => Self::Done,
            "warning" => Self::Warning,
            "cancelled" => Self::Cancelled,
            _ => Self::Failed,
        }
    }
}

/// A command that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// What the program ends with.
    pub(super) exit: Exit,
    /// What went wrong.
    pub(super) message: String,
    /// What to do about it.
    pub(super) hint: Option<String>,
}

/// What a command comes to.
pub(super) type Done = Result<Exit, Failure>;

impl Failure {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Nothing answers on this bus.
    pub(super) fn no_daemon(bus: &str, why: &str) -> Self {
        let hint = match bus {
            "system" => {
                "`systemctl status holdfastd` says whether it runs; another bus is named with --bus or HOLDFAST_BUS"
            }
            _ => {
                "start it with `holdfastd --bus` and the same address, or name another bus with --bus or HOLDFAST_BUS"
            }
        };
        Self::new(Exit::NoDaemon, format!("no holdfast daemon answers on the bus `{bus}`: {why}")).hint(hint)
    }

    fn not_authorized(message: String) -> Self {
        Self::new(Exit::NotAuthorized, message)
            .hint("become root (sudo), or ask for membership in the group `holdfast` and log in anew")
    }

    /// What a D-Bus error means for a caller of `bus`.
    pub(super) fn from_bus(error: zbus::Error, bus: &str) -> Self {
        match error {
            zbus::Error::MethodError(name, message, _) => {
                let message = message.unwrap_or_else(|| name.to_string());
                Self::named(name.as_str(), message, bus)
            }
            zbus::Error::FDO(error) => Self::standard(*error, bus),
            zbus::Error::InputOutput(_) | zbus::Error::Connection(..) => {
                Self::no_daemon(bus, &error.to_string())
            }
            other => Self::failed(format!("talking to the daemon: {other}")),
        }
    }

    /// An error reply by its name: ours, or one that the bus invents.
    fn named(name: &str, message: String, bus: &str) -> Self {
        let own = name.strip_prefix(SERVICE).and_then(|rest| rest.strip_prefix(".Error."));
        match own {
            Some("NotAuthorized") => Self::not_authorized(message),
            Some(_) => Self::failed(message),
            None if name.starts_with("org.freedesktop.systemd1.") => Self::no_daemon(bus, &message),
            None => Self::failed(format!("{message} ({name})")),
        }
    }

    fn standard(error: fdo::Error, bus: &str) -> Self {
        use fdo::Error as E;
        match error {
            E::AccessDenied(m) | E::AuthFailed(m) => {
                Self::not_authorized(format!("the bus refuses the call: {m}"))
            }
            E::ServiceUnknown(_) | E::NameHasNoOwner(_) => Self::no_daemon(bus, "it is not running"),
            E::NoReply(_) | E::Disconnected(_) => Self::no_daemon(bus, "it went away before it answered"),
            E::SpawnExecFailed(m)
            | E::SpawnForkFailed(m)
            | E::SpawnChildExited(m)
            | E::SpawnChildSignaled(m)
            | E::SpawnFailed(m)
            | E::SpawnServiceNotFound(m)
            | E::SpawnPermissionsInvalid(m) => Self::no_daemon(bus, &m),
            E::UnknownMethod(m) | E::UnknownInterface(m) | E::InvalidArgs(m) => Self::failed(format!(
                "the daemon does not know this call, it is probably of another version: {m}"
            )),
            E::ZBus(error) => Self::from_bus(error, bus),
            other => Self::failed(other.to_string()),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::failed(format!("{error:#}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_become_the_documented_exit_codes() {
        let code = |word| Exit::of_outcome(word).code();
        assert_eq!(
            ["succeeded", "skipped", "warning", "failed", "interrupted", "cancelled", "?"].map(code),
            [0, 0, 3, 1, 1, 130, 1]
        );
    }

    #[test]
    fn a_refused_caller_ends_with_5_whoever_refused() {
        let ours = Failure::named("org.holdfast.Backup1.Error.NotAuthorized", "no".into(), "system");
        let bus = Failure::standard(fdo::Error::AccessDenied("policy".into()), "system");
        assert_eq!((ours.exit, bus.exit), (Exit::NotAuthorized, Exit::NotAuthorized));
        assert!(bus.hint.unwrap().contains("holdfast"));
    }

    #[test]
    fn a_missing_daemon_ends_with_4_and_says_what_to_do() {
        let system = Failure::standard(fdo::Error::ServiceUnknown("x".into()), "system");
        assert_eq!(system.exit, Exit::NoDaemon);
        assert!(system.hint.unwrap().contains("systemctl status holdfastd"));
        let private = Failure::standard(fdo::Error::NameHasNoOwner("x".into()), "unix:path=/x");
        assert_eq!(private.exit, Exit::NoDaemon);
        assert!(private.message.contains("unix:path=/x") && private.hint.unwrap().contains("--bus"));
        let activation = Failure::named("org.freedesktop.systemd1.NoSuchUnit", "no unit".into(), "system");
        assert_eq!(activation.exit, Exit::NoDaemon);
    }

    #[test]
    fn a_named_refusal_keeps_the_daemons_sentence() {
        let failure =
            Failure::named("org.holdfast.Backup1.Error.NoSuchBackup", "no backup `x`".into(), "system");
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Failed, "no backup `x`"));
    }
}
