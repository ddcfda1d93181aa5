//! Whatever a program prints, and a program that takes it back. Both run as the instance's user, as hooks do, or in a
//! container.

use std::path::Path;

use anyhow::{Context, Result};

use super::Ready;
use super::object::{Looks, Object, Objects};
use super::record::Record;
use super::run::{self, Call};
use super::site::Site;
use crate::definition::Command;

/// The dump's file.
const FILE: &str = "dump";

fn call(site: &Site, key: &str, argv: &[String]) -> Result<Call> {
    let name = argv.first().cloned().unwrap_or_default();
    if site.apart() {
        return Ok(site.client(argv, &[]));
    }
    let mut program = site.place.command(key, argv)?;
    program.limits = site.long();
    Ok(Call::here(name, program))
}

pub(super) fn ready(site: &Site, command: &Command) -> Result<Ready> {
    call(site, "command", &command.dump)?;
    Ok(Ready::default())
}

pub(super) fn objects(site: &Site, command: &Command) -> Result<Objects> {
    let object = Object {
        what: command.dump.first().cloned().unwrap_or_default(),
        optional: false,
        record: Record::named(&site.dump, FILE),
        call: call(site, "command", &command.dump)?,
        proof: Looks::Any.into(),
    };
    Ok(Objects { list: vec![object], warnings: Vec::new() })
}

pub(super) async fn load(site: &Site, command: &Command, tree: &Path, records: &[Record]) -> Result<()> {
    let Some(argv) = &command.restore else { return Ok(()) };
    for record in records {
        let loading = || format!("loading {}", record.file);
        let call = call(site, "restore", argv)?;
        run::from_file(call, &record.path(tree), &site.cancel).await.with_context(loading)?;
    }
    Ok(())
}
