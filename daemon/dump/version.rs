//! Versions of servers: which data fits into which.

use anyhow::{Result, ensure};

use super::record::Record;

/// Major and minor, which are what data depends on.
pub(super) fn series(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|digits| digits.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Whether a file comes from no newer server than the one that is to take it; `what` is what does not fit otherwise. A file
/// of which no version is known, for somebody gave it, is for the server to judge.
///
/// # Errors
/// It was taken from a newer one.
pub(super) fn not_newer(record: &Record, product: &str, live: &str, what: &str) -> Result<()> {
    ensure!(
        series(&record.version) <= series(live),
        "{} was taken from {product} {} and the server is {live}: {what} not fit into an older server",
        record.file,
        record.version
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_do_not_count_and_numbers_are_no_texts() {
        assert!(series("3.10.8") > series("3.9.99"));
        assert_eq!(series("7.0.5-rc1"), series("7.0"));
        assert_eq!(series(""), (0, 0));
    }
}
