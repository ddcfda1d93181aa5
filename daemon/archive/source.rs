//! The bytes of an archive, from a descriptor that somebody else opened: a file, or the end of a pipe.

use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::Terms;

/// How often a cancel is looked for while nothing comes.
const LOOK: Duration = Duration::from_millis(200);

pub(super) struct Source {
    file: File,
    terms: Terms,
    sum: Sum,
}

/// The SHA-256 of all that was read so far.
#[derive(Clone, Default)]
pub(super) struct Sum(Arc<Mutex<Sha256>>);

impl Sum {
    fn add(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).update(bytes);
    }

    /// In hexadecimal digits.
    pub(super) fn text(&self) -> String {
        let sum = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().finalize();
        sum.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Source {
    pub(super) const fn new(file: File, terms: Terms, sum: Sum) -> Self {
        Self { file, terms, sum }
    }

    /// Waits until there is something to read. Whoever holds a pipe's other end may never write.
    fn wait(&self) -> io::Result<()> {
        let begun = Instant::now();
        let look = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
        loop {
            if self.terms.cancel.is_cancelled() {
                return Err(io::Error::other("ended"));
            }
            let mut fds = [PollFd::new(&self.file, PollFlags::IN)];
            match poll(&mut fds, Some(&look)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            if begun.elapsed() > self.terms.stall {
                let text = format!("nothing came for {:?}", self.terms.stall);
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
        }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.wait()?;
            match self.file.read(buffer) {
                // Somebody else reads the same pipe, or it is not a blocking one.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(count) => {
                    self.sum.add(&buffer[..count]);
                    return Ok(count);
                }
                failed => return failed,
            }
        }
    }
}
