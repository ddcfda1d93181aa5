//! holdfastd.

fn main() {}
