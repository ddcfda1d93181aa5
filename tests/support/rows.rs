//! Tables of what was tried: each row names the tests or booted cases that bear it.

use std::path::Path;

/// Prints a table; a row whose test was renamed or removed fails it.
#[expect(clippy::print_stdout, reason = "the table is for people to read")]
pub fn hold<'a>(rows: impl IntoIterator<Item = (String, &'a [&'a str])>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = String::new();
    for dir in ["tests", "daemon"] {
        read(&root.join(dir), &mut all);
    }
    for (what, tests) in rows {
        println!("{what}: {}", if tests.is_empty() { "-".to_owned() } else { tests.join(", ") });
        for test in tests {
            let is_case = root.join(format!("tests/system/cases/{test}.sh")).is_file();
            assert!(is_case || bears(&all, test), "{what}: there is no test {test}");
        }
    }
}

/// Tests of all restic versions are written once, by a macro.
fn bears(all: &str, test: &str) -> bool {
    all.contains(&format!("fn {test}()")) || all.contains(&format!("each_restic!({test},"))
}

fn read(dir: &Path, all: &mut String) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, all);
        } else if path.extension().is_some_and(|end| end == "rs") {
            all.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}
