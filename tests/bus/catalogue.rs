//! The lists of hostile calls (B) and of secrets (X) in the project's research: each number has a test that bears it.

use std::collections::BTreeMap;
use std::path::Path;

/// How many there are of each kind.
const LISTS: [(char, usize); 2] = [('B', 51), ('X', 12)];

#[test]
fn every_hostile_case_has_a_test_that_bears_its_number() {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"), &mut found);
    let all = LISTS.iter().flat_map(|(list, most)| (1..=*most).map(move |n| format!("{list}{n:02}")));
    let (mut table, mut missing) = (String::new(), Vec::new());
    for case in all {
        match found.get(&case) {
            Some(files) => table.push_str(&format!("{case} {}\n", files.join(", "))),
            None => missing.push(case),
        }
    }
    println!("{table}");
    assert!(missing.is_empty(), "no test bears {missing:?}");
}

/// Notes which files name which cases, in code or prose.
fn read(dir: &Path, found: &mut BTreeMap<String, Vec<String>>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs" || end == "sh")
            && !path.ends_with("catalogue.rs")
        {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            for case in cases(&std::fs::read_to_string(&path).unwrap()) {
                let files = found.entry(case).or_default();
                if !files.contains(&name) {
                    files.push(name.clone());
                }
            }
        }
    }
}

/// `B02`, and of `B04–B06` those between; in comments only.
fn cases(text: &str) -> Vec<String> {
    let mut cases = Vec::new();
    for line in text.lines().filter(|line| line.trim_start().starts_with(['/', '#'])) {
        let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '–');
        for word in words.filter(|word| !word.is_empty()) {
            let (first, last) = word.split_once('–').unwrap_or((word, word));
            if let (Some(first), Some(last)) = (number(first), number(last)) {
                cases.extend((first.1..=last.1).map(|n| format!("{}{n:02}", first.0)));
            }
        }
    }
    cases
}

fn number(word: &str) -> Option<(char, usize)> {
    let (list, digits) = (word.chars().next()?, word.get(1..)?);
    let known = LISTS.iter().any(|(known, _)| *known == list);
    (known && digits.len() == 2).then(|| digits.parse().ok())?.map(|n| (list, n))
}

#[test]
fn ranges_are_spelled_out() {
    assert_eq!(cases("/// B04–B06, B09 of B1 and Bus"), ["B04", "B05", "B06", "B09"]);
    assert_eq!(cases("let b = B07;"), [""; 0]);
}
