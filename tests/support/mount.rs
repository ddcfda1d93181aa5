//! Small file systems, for disks that are full or read-only. Mounting needs root.

use std::path::PathBuf;
use std::process::Command;

/// A small file system; gone when dropped.
pub struct Mount(pub PathBuf);

impl Mount {
    /// A tmpfs with these options.
    pub fn tmpfs(at: PathBuf, options: &str) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(&at).status();
        assert!(mounted.unwrap().success(), "mounting needs root");
        Self(at)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
