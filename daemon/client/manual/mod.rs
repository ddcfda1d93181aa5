//! `holdfast man`: the man pages, made from what they describe: the command lines, the keys of the files, and the
//! introspection of the bus.

mod bus;
mod keys;

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use roff::{Inline, Roff, bold, roman};

use super::Context;
use super::args::Cli;
use super::failure::{Done, Exit, Failure};
use crate::service;

/// `holdfast man`
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The directory that gets man1, man5 and man8; it must exist
    directory: PathBuf,
}

pub(super) fn man(context: &Context, args: ManArgs) -> Done {
    let directory = args.directory.display();
    write(&args.directory)
        .map_err(|error| Failure::failed(format!("writing man pages into {directory}: {error}")))?;
    context.out.note(format!("the man pages are in {directory}"));
    Ok(Exit::Done)
}

fn write(directory: &Path) -> std::io::Result<()> {
    let section = |number: u8| {
        let path = directory.join(format!("man{number}"));
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(path),
        }
    };
    clap_mangen::generate_to(Cli::command(), section(1)?)?;
    let (files, daemon) = (section(5)?, section(8)?);
    std::fs::write(files.join("holdfast.toml.5"), keys::page().render())?;
    std::fs::write(files.join("org.holdfast.Backup1.5"), bus::page().render())?;
    let mut page = Vec::new();
    clap_mangen::Man::new(service::Arguments::command()).section("8").render(&mut page)?;
    std::fs::write(daemon.join("holdfastd.8"), page)
}

/// A page of section 5 with its head, up to the text of the description.
fn head(name: &str, about: &str, synopsis: &str, description: &[&str]) -> Roff {
    let mut page = Roff::new();
    let version = format!("holdfast {}", env!("CARGO_PKG_VERSION"));
    page.control("TH", [name, "5", "", &version, "Holdfast"]);
    section(&mut page, "NAME");
    page.text([roman(format!("{name} - {about}"))]);
    section(&mut page, "SYNOPSIS");
    page.text([roman(synopsis)]);
    section(&mut page, "DESCRIPTION");
    for text in description {
        page.control("PP", []);
        page.text([roman(*text)]);
    }
    page
}

fn section(page: &mut Roff, title: &str) {
    page.control("SH", [title]);
}

/// A term and what it means.
fn item(page: &mut Roff, term: Vec<Inline>, meaning: &str) {
    page.control("TP", []);
    page.text(term);
    page.text([roman(meaning)]);
}

fn see_also(page: &mut Roff, others: &[&str]) {
    section(page, "SEE ALSO");
    let listed = others.iter().enumerate().flat_map(|(at, other)| {
        let (name, rest) = other.split_once('(').unwrap_or((other, ""));
        [bold(name), roman(format!("({rest}{}", if at + 1 < others.len() { ", " } else { "" }))]
    });
    page.text(listed.collect::<Vec<_>>());
}
