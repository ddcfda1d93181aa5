//! `holdfast export`: a set as one archive, streamed. Asks no daemon, so it needs the daemon's secrets.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::failure::{Done, Exit, Failure};
use super::format::{count, size};
use super::look::{From, Looked, opened};
use super::restic::Ready;
use super::{Context, local};
use crate::job::restore::Streamed;
use crate::restic::{Passed, Terms};

/// The unit of a tar archive, in bytes.
const BLOCK: usize = 512;

/// `holdfast export`
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// A snapshot's id, or an instance: its latest snapshot
    what: String,
    /// The archive to be written, ending in .tar, .tar.gz or .tar.zst; - is standard output
    file: PathBuf,
    /// The format, where the name does not say it
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Only from this repository
    #[arg(long)]
    repository: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Not compressed
    #[value(name = "tar")]
    Tar,
    /// By gzip
    #[value(name = "tar.gz")]
    Gzip,
    /// By zstd
    #[value(name = "tar.zst")]
    Zstd,
}

impl Format {
    fn of(args: &ExportArgs) -> Result<Self, Failure> {
        let name = args.file.to_string_lossy();
        let endings =
            [(".tar", Self::Tar), (".tar.gz", Self::Gzip), (".tgz", Self::Gzip), (".tar.zst", Self::Zstd)];
        let by_name = endings.iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, format)| *format);
        let default = (name == "-").then_some(Self::Tar);
        args.format.or(by_name).or(default).ok_or_else(|| {
            Failure::usage(format!("{name} says no format"))
                .hint("let it end in .tar, .tar.gz or .tar.zst, or say --format")
        })
    }
}

pub(super) async fn export(context: &Context, args: ExportArgs) -> Done {
    let format = Format::of(&args)?;
    let to_output = args.file == Path::new("-");
    if to_output && io::stdout().is_terminal() {
        return Err(Failure::usage("an archive is not for a terminal").hint("redirect it, or name a file"));
    }
    if !to_output && args.file.symlink_metadata().is_ok() {
        return Err(
            Failure::failed(format!("{} is there already", args.file.display())).hint("name another file")
        );
    }
    let set = found(context, &args).await?;
    if to_output {
        let (passed, mut out) = stream(&set, format, io::stdout()).await?;
        out.flush().map_err(|error| Failure::failed(format!("writing the archive: {error}")))?;
        context.out.note(told(passed));
        return Ok(Exit::Done);
    }
    let passed = into_file(&set, format, &args.file).await?;
    context.out.note(format!("{}: {}", args.file.display(), told(passed)));
    Ok(Exit::Done)
}

fn told(passed: Passed) -> String {
    format!("{}, {}", count(passed.entries, "entry").replace("entrys", "entries"), size(passed.bytes))
}

/// The snapshot, of the instance of that name or of any instance that is defined.
async fn found(context: &Context, args: &ExportArgs) -> Result<Looked, Failure> {
    let loaded = local::definitions(context)?;
    let repository = args.repository.clone();
    if loaded.definitions.instances.contains_key(args.what.as_str()) {
        return opened(context, &From::of(&args.what, None, repository)).await;
    }
    if args.what.len() < 4 || !args.what.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let text = format!("{:?} is neither an instance nor a snapshot's id", args.what);
        return Err(Failure::failed(text).hint("`holdfast snapshots INSTANCE` lists snapshots"));
    }
    let mut last = None;
    for instance in loaded.definitions.instances.keys() {
        match opened(context, &From::of(instance, Some(&args.what), repository.clone())).await {
            Err(failure) => last = Some(failure),
            found => return found,
        }
    }
    let text = format!("no instance has a snapshot {}", args.what);
    Err(last.map_or_else(
        || Failure::failed(text.clone()),
        |last| Failure::failed(text.clone()).hint(last.message),
    ))
}

/// The file appears when it is whole.
async fn into_file(set: &Looked, format: Format, file: &Path) -> Result<Passed, Failure> {
    let failed = |error: io::Error| Failure::failed(format!("writing {}: {error}", file.display()));
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // 0600: what is in it was readable for its owners only.
    let unfinished = tempfile::Builder::new().prefix(".holdfast-export.").tempfile_in(dir).map_err(failed)?;
    let (passed, unfinished) = stream(set, format, unfinished).await?;
    unfinished.as_file().sync_all().map_err(failed)?;
    unfinished.persist_noclobber(file).map_err(|error| failed(error.error))?;
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    Ok(passed)
}

/// Streams the set; the compressor is ended only when all of it has come.
async fn stream<W: Write + Send>(set: &Looked, format: Format, to: W) -> Result<(Passed, W), Failure> {
    let mut sink = Sink::new(format, to).map_err(|error| Failure::failed(format!("compressing: {error}")))?;
    let passed = tokio::select! {
        passed = pass(set, &mut sink) => passed?,
        _ = tokio::signal::ctrl_c() => return Err(Failure::new(Exit::Cancelled, "nothing was exported")),
    };
    let to = sink.end().map_err(|error| Failure::failed(format!("writing the archive: {error}")))?;
    Ok((passed, to))
}

/// The tree, then the dumps that were streamed, where they would lie had they been staged.
async fn pass<W: Write + Send>(set: &Looked, sink: &mut Sink<W>) -> Result<Passed, Failure> {
    let Looked { ready, snapshot, streams } = set;
    let terms = Terms::new(&CancellationToken::new());
    let mut end = End::default();
    let passing = ready.restic.archive(&ready.access, snapshot, &terms, |piece| end.pass(piece, sink));
    let mut passed = passing.await.map_err(|error| refused("exporting", &error))?;
    let mut entries = 0;
    let listed = ready.restic.ls(&ready.access, snapshot, &terms, |entry| {
        // An archive has no sockets.
        entries += u64::from(entry.kind != "socket");
    });
    listed.await.map_err(|error| refused("listing the snapshot", &error))?;
    if entries != passed.entries {
        let text = format!("the archive has {} of {entries} entries", passed.entries);
        return Err(Failure::failed(text).hint("`holdfast check` looks for damage in the repository"));
    }
    for streamed in streams {
        passed.bytes += add(ready, streamed, sink).await?;
        passed.entries += 1;
    }
    let ended = end.0.iter().all(|byte| *byte == 0).then(|| sink.write_all(&end.0));
    match ended {
        Some(Ok(())) => Ok(passed),
        Some(Err(error)) => Err(Failure::failed(format!("writing the archive: {error}"))),
        None => Err(Failure::failed("restic ended its archive as no archive ends")),
    }
}

fn refused(doing: &str, error: &crate::restic::Error) -> Failure {
    Failure::failed(format!("{doing}: {error}")).hint(error.advice())
}

/// Adds one file that was streamed; the bytes that it took.
async fn add<W: Write + Send>(
    ready: &Ready,
    streamed: &Streamed,
    sink: &mut Sink<W>,
) -> Result<u64, Failure> {
    let writing = |error: io::Error| Failure::failed(format!("writing the archive: {error}"));
    let header = header(streamed).map_err(writing)?;
    sink.write_all(&header).map_err(writing)?;
    let (mut hash, mut size) = (Sha256::new(), 0_u64);
    let terms = Terms::new(&CancellationToken::new());
    let taking = ready.restic.dump_to(&ready.access, &streamed.snapshot, &streamed.name, &terms, |piece| {
        hash.update(piece);
        size += piece.len() as u64;
        sink.write_all(piece)
    });
    taking.await.map_err(|error| refused(&format!("exporting {}", streamed.file), &error))?;
    let digits: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if (size, &digits) != (streamed.size, &streamed.sha256) {
        let text =
            format!("{} is not the dump that was taken: {size} bytes, SHA-256 {digits}", streamed.file);
        return Err(Failure::failed(text).hint("`holdfast check` looks for damage in the repository"));
    }
    let padding = vec![0; usize::try_from(size.next_multiple_of(BLOCK as u64) - size).unwrap_or(0)];
    sink.write_all(&padding).map_err(writing)?;
    Ok(header.len() as u64 + size + padding.len() as u64)
}

/// What stands before a file in an archive: 0600, and root's, as what is staged is. A stream has no time of its own.
fn header(streamed: &Streamed) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_size(streamed.size);
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, &streamed.file, io::empty())?;
    Ok(archive.get_ref().clone())
}

/// The last two blocks, which end an archive: held back until nothing more follows.
#[derive(Default)]
struct End(Vec<u8>);

impl End {
    fn pass<W: Write>(&mut self, piece: &[u8], sink: &mut Sink<W>) -> io::Result<()> {
        let surplus = (self.0.len() + piece.len()).saturating_sub(2 * BLOCK);
        let held = surplus.min(self.0.len());
        sink.write_all(&self.0[..held])?;
        self.0.drain(..held);
        let (now, later) = piece.split_at(surplus - held);
        sink.write_all(now)?;
        self.0.extend_from_slice(later);
        Ok(())
    }
}

enum Sink<W: Write> {
    Plain(io::BufWriter<W>),
    Gzip(flate2::write::GzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Sink<W> {
    fn new(format: Format, to: W) -> io::Result<Self> {
        Ok(match format {
            Format::Tar => Self::Plain(io::BufWriter::with_capacity(1 << 16, to)),
            Format::Gzip => Self::Gzip(flate2::write::GzEncoder::new(to, flate2::Compression::default())),
            Format::Zstd => {
                let mut encoder = zstd::Encoder::new(to, 3)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
        })
    }

    fn write_all(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(to) => to.write_all(piece),
            Self::Gzip(to) => to.write_all(piece),
            Self::Zstd(to) => to.write_all(piece),
        }
    }

    fn end(self) -> io::Result<W> {
        match self {
            Self::Plain(to) => to.into_inner().map_err(io::IntoInnerError::into_error),
            Self::Gzip(to) => to.finish(),
            Self::Zstd(to) => to.finish(),
        }
    }
}
