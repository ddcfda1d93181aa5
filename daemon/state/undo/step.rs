//! The steps that can be undone, as they are written.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::definition::{Manager, Ran, Remote};

/// Something to be done when a job ends, and at the next start if it did not get to it. Safe to repeat.
///
/// Written as `{"kind":"remove_dir","path":"…"}`. A kind that is added later is [`Recorded::Unknown`] to this version, and
/// so is a known kind with a field that this version does not know: it might mean something else then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Remove a directory that was made for the job, with all that is in it.
    RemoveDir {
        /// The directory.
        #[serde(with = "path")]
        path: PathBuf,
    },
    /// Remove a file that was made for the job: of a new instance its definition and its identity.
    RemoveFile {
        /// The file.
        #[serde(with = "path")]
        path: PathBuf,
    },
    /// Run a hook of an instance.
    RunHook {
        /// The instance.
        instance: String,
        /// The backup: the hook's first argument.
        backup: String,
        /// Which hook: `cleanup`.
        hook: String,
    },
    /// Put old data back that a restore set aside, if it did.
    SwapBack {
        /// The instance.
        instance: String,
        /// Where the data lives.
        #[serde(with = "path")]
        live: PathBuf,
        /// Where the old data is kept, once set aside.
        #[serde(with = "path")]
        aside: PathBuf,
        /// The inode number of the old data, which tells where it is now; none: nothing lived there before.
        inode: Option<u64>,
    },
    /// Start services again that were stopped. Written before the first of them is stopped.
    StartServices {
        /// The instance that they were stopped for.
        instance: String,
        /// What the service is called in the definition.
        service: String,
        /// Who starts them, and which of its parts it is about.
        by: Manager,
        /// The user that its programs run as; none: our own.
        user: Option<String>,
        /// The machine that they are on; none: this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remote: Option<Remote>,
        /// What ran, in stop order; started in reverse.
        ran: Vec<Ran>,
        /// Their data may be exchanged beneath them: what runs is to be stopped before data is put back.
        restart: bool,
    },
    /// Put back what a restore exchanged on another machine. Written before it is exchanged.
    FarBack {
        /// The instance.
        instance: String,
        /// What changes places, as the room `job` describes it.
        far: serde_json::Value,
    },
    /// Put back what a volume held that a restore fills through its engine. Written before it is emptied.
    VolumeBack {
        /// The instance.
        instance: String,
        /// The volume and where its data is, as the room `job` describes it.
        was: serde_json::Value,
    },
    /// Remove our directories on another machine, with all that is in them.
    FarRemove {
        /// The machine.
        remote: Remote,
        /// The directories.
        dirs: Vec<String>,
    },
    /// Remove directories on another machine that were made for the job, as far as nothing lies in them.
    FarLeave {
        /// The machine.
        remote: Remote,
        /// The directories, the upper ones first.
        dirs: Vec<String>,
    },
    /// Take back, or finish, what a restore changed in a server.
    Dump {
        /// The instance.
        instance: String,
        /// The dump whose server it is.
        dump: String,
        /// What to do.
        act: Act,
        /// The change, as the room `dump` describes it.
        change: serde_json::Value,
        /// The instance is not defined yet: how its server is reached, as the room `job` describes it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        founding: Option<serde_json::Value>,
    },
    /// Remove a user that was made for the job.
    RemoveUser {
        /// Its name.
        name: String,
        /// Its comment: where it has another one it is no longer ours.
        comment: String,
    },
    /// Put owner, mode, attributes and time back on a directory whose children a restore exchanged.
    PutOn {
        /// The directory.
        #[serde(with = "path")]
        dir: PathBuf,
        /// What it had, as a manifest describes a root.
        root: serde_json::Value,
    },
    /// Remove our own stale lock from a restic repository.
    Unlock {
        /// The repository's name.
        repository: String,
        /// What follows the repository's url: empty, or `module/uuid`.
        location: String,
    },
}

/// What to do with a change in a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Take it back.
    Undo,
    /// Remove what it kept.
    Discard,
}

/// A step as found in a file.
#[expect(clippy::large_enum_variant, reason = "a few at a time, and nearly all of them are the large one")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Recorded {
    /// One that this version can run.
    Known(Step),
    /// One of a newer version, or a damaged line: kept, and to be reported.
    Unknown(serde_json::Value),
}

/// A path as text, or as an array of bytes where it is not UTF-8, for users' trees hold such names.
mod path {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => path.as_os_str().as_bytes().serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(match Written::deserialize(deserializer)? {
            Written::Text(text) => text.into(),
            Written::Bytes(bytes) => OsString::from_vec(bytes).into(),
        })
    }
}
