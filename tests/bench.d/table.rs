//! The table of what was measured.

use std::fmt;

/// Rows in the order in which they were measured.
#[derive(Default)]
pub(crate) struct Table(Vec<[String; 4]>);

impl Table {
    /// A figure with a bar.
    pub(crate) fn barred(&mut self, what: &str, measured: impl Into<String>, bar: &str, kept: bool) {
        let verdict = if kept { "ok" } else { "over" };
        self.0.push([what.into(), measured.into(), bar.into(), verdict.into()]);
    }

    /// A figure without one.
    pub(crate) fn plain(&mut self, what: &str, measured: impl Into<String>) {
        self.0.push([what.into(), measured.into(), String::new(), String::new()]);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["WHAT", "MEASURED", "BAR", ""].map(String::from);
        let rows: Vec<_> = std::iter::once(&head).chain(&self.0).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (what, measured, bar) = (width(0), width(1), width(2));
        for [a, b, c, d] in rows {
            let line = format!("{a:what$}  {b:measured$}  {c:bar$}  {d}");
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
