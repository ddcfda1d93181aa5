//! Files that were packed without their holes: where their data lies, in GNU's old form and in pax 1.0.

use anyhow::{Context, Result, ensure};
use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::member::BLOCK;

/// More pieces than any file has that was made by use.
const MOST: usize = 1 << 20;

pub(super) type Map = Vec<(u64, u64)>;

/// GNU's old form: the list begins in the header and goes on in blocks before the data.
pub(super) fn gnu(header: &Header, mut block: impl FnMut() -> Result<[u8; BLOCK]>) -> Result<(u64, Map)> {
    let gnu = header.as_gnu().context("a sparse file without GNU's header")?;
    let mut map = Map::new();
    add(&mut map, &gnu.sparse)?;
    let mut more = gnu.is_extended();
    while more {
        let mut next = GnuExtSparseHeader::new();
        next.as_mut_bytes().copy_from_slice(&block()?);
        add(&mut map, &next.sparse)?;
        more = next.is_extended();
    }
    let real = gnu.real_size().context("a sparse file without its size")?;
    sound(&map, real)?;
    Ok((real, map))
}

fn add(map: &mut Map, pieces: &[GnuSparseHeader]) -> Result<()> {
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        map.push((piece.offset()?, piece.length()?));
    }
    ensure!(map.len() <= MOST, "a file of more than {MOST} pieces");
    Ok(())
}

/// pax 1.0: the list stands before the data, in decimal lines, padded to a block.
pub(super) fn pax(real: u64, mut data: impl FnMut(&mut [u8]) -> Result<usize>) -> Result<Map> {
    let mut read = 0_usize;
    let mut number = || -> Result<u64> {
        let mut value = 0_u64;
        for _ in 0..21 {
            let mut byte = [0];
            ensure!(data(&mut byte)? == 1, "the list of a sparse file is cut off");
            read += 1;
            match byte[0] {
                b'\n' => return Ok(value),
                digit @ b'0'..=b'9' => {
                    let more = value.checked_mul(10).and_then(|ten| ten.checked_add(u64::from(digit - b'0')));
                    value = more.context("a number of a sparse file is too large")?;
                }
                _ => anyhow::bail!("the list of a sparse file is damaged"),
            }
        }
        anyhow::bail!("the list of a sparse file is damaged")
    };
    let count = usize::try_from(number()?)?;
    ensure!(count <= MOST, "a file of more than {MOST} pieces");
    let mut map = Map::new();
    for _ in 0..count {
        map.push((number()?, number()?));
    }
    for _ in read..read.next_multiple_of(BLOCK) {
        ensure!(data(&mut [0])? == 1, "the list of a sparse file is cut off");
    }
    sound(&map, real)?;
    Ok(map)
}

/// Pieces follow each other and lie inside the file.
fn sound(map: &Map, real: u64) -> Result<()> {
    let mut end = 0;
    for (offset, length) in map {
        ensure!(*offset >= end, "the pieces of a sparse file overlap");
        end = offset.checked_add(*length).context("a piece of a sparse file is too large")?;
    }
    ensure!(end <= real && i64::try_from(real).is_ok(), "the pieces of a sparse file are larger than it");
    Ok(())
}
