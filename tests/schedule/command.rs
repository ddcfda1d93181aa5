//! `holdfast schedule` and bad input: each is refused with its place, exit code 1; a wrong zone or time is usage, 2.

use std::process::Command;

use super::support::{stderr, stdout};

fn schedule(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    let said = command.arg("schedule").args(arguments).env("TZ", "UTC").output().unwrap();
    (said.status.code(), stdout(&said), stderr(&said))
}

#[test]
fn bad_expressions_are_refused_with_a_caret_under_the_place() {
    for (expression, marked, message) in [
        ("*-02-30", "^^^^^^^", "no date can ever match"),
        ("Feb 31", "^^^", "neither a keyword nor a weekday"),
        ("*-4-31 10:00", "^^^^^^^^^^^^", "no date can ever match"),
        ("02:30 Europe/Berlim", "             ^", ""),
        ("*:0/0", "   ^", "step of 0"),
        ("*:0/-5", "    ^", "found `-`"),
        ("*/0 * * * *", "  ^", "step of 0"),
        ("every 0h", "^", ""),
        ("every -6h", "^", ""),
        ("０2:30", "^", "no meaning here"),
        ("25:00", "^^", "is not an hour"),
        ("", "^", "empty"),
        ("   ", "^^^", "empty"),
    ] {
        let (code, out, err) = schedule(&["--", expression]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{expression:?}: {err}");
        let carets = err.lines().find(|line| line.trim_start().starts_with('^')).unwrap_or_default();
        assert!(carets.contains(marked.trim()), "{expression:?}: {err}");
        assert!(err.contains(message), "{expression:?}: {err}");
    }
}

#[test]
fn a_very_long_expression_is_refused_shortly() {
    let (code, _, err) = schedule(&[&"1,".repeat(5000)]);
    assert_eq!(code, Some(1));
    assert!(err.contains("too long") && err.len() < 1000, "{} bytes: {err:.200}", err.len());
}

#[test]
fn a_wrong_zone_or_time_or_number_is_usage() {
    for arguments in [
        ["daily", "--zone", "Europe/Berlim"],
        ["daily", "--zone", ""],
        ["daily", "--from", "yesterdayish"],
        ["daily", "-n", "many"],
    ] {
        let (code, out, err) = schedule(&arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        assert!(!err.is_empty());
    }
}

#[test]
fn json_has_the_normal_form_the_sentence_and_instants_with_their_offset() {
    let from = "2026-03-28T00:00:00Z";
    let (code, out, err) =
        schedule(&["02:30", "--zone", "Europe/Berlin", "--from", from, "-n", "3", "--json"]);
    assert_eq!(code, Some(0), "{err}");
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value["normal"], "*-*-* 02:30:00");
    assert!(value["sentence"].as_str().unwrap().contains("02:30"));
    let next: Vec<&str> = value["next"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    assert_eq!(next, ["2026-03-28T02:30:00+01:00", "2026-03-29T03:30:00+02:00", "2026-03-30T02:30:00+02:00"]);
}
