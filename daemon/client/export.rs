//! `holdfast export`: a set as one archive, streamed. Asks no daemon, so it needs the daemon's secrets.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use tokio_util::sync::CancellationToken;

use super::failure::{Done, Exit, Failure};
use super::format::{count, size};
use super::look::{From, opened};
use super::restic::Ready;
use super::{Context, local};
use crate::restic::{Passed, Terms};

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
    let (ready, snapshot) = found(context, &args).await?;
    if to_output {
        let (passed, mut out) = stream(&ready, &snapshot, format, io::stdout()).await?;
        out.flush().map_err(|error| Failure::failed(format!("writing the archive: {error}")))?;
        context.out.note(told(passed));
        return Ok(Exit::Done);
    }
    let passed = into_file(&ready, &snapshot, format, &args.file).await?;
    context.out.note(format!("{}: {}", args.file.display(), told(passed)));
    Ok(Exit::Done)
}

fn told(passed: Passed) -> String {
    format!("{}, {}", count(passed.entries, "entry").replace("entrys", "entries"), size(passed.bytes))
}

/// The snapshot, of the instance of that name or of any instance that is defined.
async fn found(context: &Context, args: &ExportArgs) -> Result<(Ready, String), Failure> {
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
async fn into_file(ready: &Ready, snapshot: &str, format: Format, file: &Path) -> Result<Passed, Failure> {
    let failed = |error: io::Error| Failure::failed(format!("writing {}: {error}", file.display()));
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // 0600: what is in it was readable for its owners only.
    let unfinished = tempfile::Builder::new().prefix(".holdfast-export.").tempfile_in(dir).map_err(failed)?;
    let (passed, unfinished) = stream(ready, snapshot, format, unfinished).await?;
    unfinished.as_file().sync_all().map_err(failed)?;
    unfinished.persist_noclobber(file).map_err(|error| failed(error.error))?;
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    Ok(passed)
}

/// Streams the set; the compressor is ended only when all of it has come.
async fn stream<W: Write + Send>(
    ready: &Ready,
    snapshot: &str,
    format: Format,
    to: W,
) -> Result<(Passed, W), Failure> {
    let mut sink = Sink::new(format, to).map_err(|error| Failure::failed(format!("compressing: {error}")))?;
    let cancel = CancellationToken::new();
    let terms = Terms::new(&cancel);
    let passing = ready.restic.archive(&ready.access, snapshot, &terms, |piece| sink.write_all(piece));
    let ended = tokio::select! {
        ended = passing => Some(ended),
        _ = tokio::signal::ctrl_c() => None,
    };
    let Some(ended) = ended else { return Err(Failure::new(Exit::Cancelled, "nothing was exported")) };
    let passed =
        ended.map_err(|error| Failure::failed(format!("exporting: {error}")).hint(error.advice()))?;
    let mut entries = 0;
    let listed = ready.restic.ls(&ready.access, snapshot, &terms, |entry| {
        // An archive has no sockets.
        entries += u64::from(entry.kind != "socket");
    });
    listed.await.map_err(|error| Failure::failed(format!("listing the snapshot: {error}")))?;
    if entries != passed.entries {
        let text = format!("the archive has {} of {entries} entries", passed.entries);
        return Err(Failure::failed(text).hint("`holdfast check` looks for damage in the repository"));
    }
    let to = sink.end().map_err(|error| Failure::failed(format!("writing the archive: {error}")))?;
    Ok((passed, to))
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
