//! A child's standard input that ends only when we say so.
//!
//! A pipe ends when its writer dies, however it dies, and whoever reads it takes that for the end of the data: restic then
//! keeps half a dump as a good snapshot, if it is quicker than the signal that ends it with us. So the child reads from a
//! socket, and in our end of it lies a byte that we never read. A socket that is closed over unread data resets its peer:
//! unless [`Feed::end`] was called, the child meets an error there (`ECONNRESET`, unix(7)), never an end.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::AsyncWriteExt;

use super::Stdin;

/// Our end of a child's standard input. Dropped before [`Feed::end`], the child meets an error.
#[derive(Debug)]
pub struct Feed {
    socket: tokio::net::UnixStream,
    hungry: Hunger,
}

/// Whether a child has taken all that there is and waits for us: then it is not its fault that it makes no progress.
#[derive(Debug, Clone, Default)]
pub struct Hunger(Arc<AtomicBool>);

impl Hunger {
    /// Whether it waits for us now.
    pub fn waits(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, waits: bool) {
        self.0.store(waits, Ordering::Relaxed);
    }
}

impl Feed {
    /// Our end, and what the child is to be started with.
    ///
    /// # Errors
    /// There are no more descriptors.
    pub fn new() -> io::Result<(Self, Stdin)> {
        let (ours, mut theirs) = UnixStream::pair()?;
        theirs.write_all(&[0])?;
        // As much as the system lets us (`net.core.wmem_max`): the child finds more each time it looks.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&ours, 1 << 20);
        ours.set_nonblocking(true)?;
        let hungry = Hunger::default();
        hungry.set(true);
        let feed = Self { socket: tokio::net::UnixStream::from_std(ours)?, hungry };
        Ok((feed, Stdin::File(theirs.into())))
    }

    /// Tells whether the child waits for us.
    pub fn hunger(&self) -> Hunger {
        self.hungry.clone()
    }

    /// Hands all of it over; waits while the child does not take it.
    ///
    /// # Errors
    /// The child takes no more.
    pub async fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.hungry.set(false);
        let written = self.socket.write_all(piece).await;
        self.hungry.set(written.is_ok());
        written
    }

    /// That was all: the child finds the end behind what it was given. Keep the feed until the child is over.
    ///
    /// # Errors
    /// The child is gone.
    pub fn end(&self) -> io::Result<()> {
        self.hungry.set(false);
        rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// What a child reads, and how that ends.
    async fn read(theirs: Stdin) -> (Vec<u8>, io::Result<usize>) {
        let Stdin::File(theirs) = theirs else { panic!("a descriptor") };
        let reading = move || {
            let (mut all, mut file) = (Vec::new(), std::fs::File::from(theirs));
            let ended = file.read_to_end(&mut all);
            (all, ended)
        };
        tokio::task::spawn_blocking(reading).await.unwrap()
    }

    #[tokio::test]
    async fn only_what_was_ended_has_an_end() {
        let (mut feed, theirs) = Feed::new().unwrap();
        let reading = tokio::spawn(read(theirs));
        feed.write(&[7; 300_000]).await.unwrap();
        feed.end().unwrap();
        let (all, ended) = reading.await.unwrap();
        assert_eq!((all.len(), ended.unwrap()), (300_000, 300_000));
        drop(feed);
        for bytes in [0, 1, 300_000] {
            let (mut feed, theirs) = Feed::new().unwrap();
            let reading = tokio::spawn(read(theirs));
            feed.write(&vec![7; bytes]).await.unwrap();
            drop(feed);
            let (all, ended) = reading.await.unwrap();
            assert!(all.len() <= bytes);
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset, "{bytes}");
        }
    }

    #[tokio::test]
    async fn who_takes_no_more_is_noticed() {
        let (mut feed, theirs) = Feed::new().unwrap();
        assert!(feed.hunger().waits());
        drop(theirs);
        assert!(feed.write(b"x").await.is_err());
        assert!(!feed.hunger().waits());
    }
}
