use std::time::Duration;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn set(snapshot: &str, second: i64, version: &str) -> SetRecord {
    SetRecord {
        repository: "r".into(),
        location: String::new(),
        set: format!("j{snapshot}"),
        snapshot: snapshot.into(),
        instance: "a".into(),
        uuid: String::new(),
        backup: "b".into(),
        host: "here".into(),
        time: at(second),
        size: 0,
        files: 0,
        version: version.into(),
        outcome: Some(Outcome::Succeeded),
    }
}

fn attempt(snapshot: &str, second: i64, over: bool) -> Attempt {
    Attempt {
        at: at(second),
        snapshot: snapshot.into(),
        over,
        acknowledged: false,
        well: false,
        no_start: false,
    }
}

fn terms() -> Recovery {
    Recovery { cool_down: Duration::from_secs(10), ..Recovery::of("x.service".into()) }
}

fn chosen(sets: &[SetRecord], past: &Past, version: &str) -> Option<String> {
    let terms = terms();
    let measure = Measure { terms: &terms, version, host: "here", past };
    measure.candidate(sets).map(|set| set.snapshot.clone())
}

#[test]
fn the_newest_set_of_the_very_same_version_is_chosen() {
    let sets = [set("a", 1, "1.0"), set("b", 2, "1.0"), set("c", 3, "1.0.1")];
    assert_eq!(chosen(&sets, &Past::default(), "1.0").as_deref(), Some("b"));
    assert_eq!(chosen(&sets, &Past::default(), "2"), None);
    assert_eq!(chosen(&sets, &Past::default(), ""), None);
}

#[test]
fn each_set_is_tried_once_and_one_that_was_cut_off_again() {
    let sets = [set("a", 1, ""), set("b", 2, ""), set("c", 3, "")];
    let mut past = Past::default();
    for expected in ["c", "b", "a"] {
        assert_eq!(chosen(&sets, &past, "").as_deref(), Some(expected));
        past.attempts.push(attempt(expected, 10, false));
        assert_eq!(chosen(&sets, &past, "").as_deref(), Some(expected), "cut off");
        past.attempts.last_mut().unwrap().over = true;
    }
    assert_eq!(chosen(&sets, &past, ""), None);
    let terms = terms();
    let measure = Measure { terms: &terms, version: "", host: "here", past: &past };
    assert_eq!(measure.none_because(&sets), "no set is left to restore: 3 restored");
}

#[test]
fn what_was_made_of_a_sick_application_by_another_host_or_with_a_warning_is_left_out() {
    let mut sets = vec![set("a", 1, ""), set("b", 2, ""), set("c", 3, ""), set("d", 4, "")];
    sets[1].outcome = Some(Outcome::Warning);
    sets[2].host = "there".into();
    let past = Past { sick: vec!["jd".into()], ..Past::default() };
    assert_eq!(chosen(&sets, &past, "").as_deref(), Some("a"));
    let terms = Recovery { allow_warning: true, ..terms() };
    let measure = Measure { terms: &terms, version: "", host: "here", past: &past };
    assert_eq!(measure.candidate(&sets).unwrap().snapshot, "b");
}

#[test]
fn sets_of_unknown_outcome_come_last() {
    let mut sets = vec![set("a", 1, ""), set("b", 2, "")];
    sets[1].outcome = None;
    assert_eq!(chosen(&sets, &Past::default(), "").as_deref(), Some("a"));
    assert_eq!(chosen(&sets[1..], &Past::default(), "").as_deref(), Some("b"));
}

#[test]
fn attempts_are_bounded_within_the_window_and_apart() {
    let terms = terms();
    let past = |seconds: &[i64]| Past {
        attempts: seconds.iter().map(|second| attempt("x", *second, true)).collect(),
        ..Past::default()
    };
    assert_eq!(bound(&terms, &past(&[]), at(0)), Bound::Free);
    assert_eq!(bound(&terms, &past(&[0]), at(5)), Bound::CoolDown(at(10)));
    assert_eq!(bound(&terms, &past(&[0]), at(10)), Bound::Free);
    assert_eq!(bound(&terms, &past(&[0, 20, 40]), at(60)), Bound::Exhausted(3));
    assert_eq!(bound(&terms, &past(&[0, 20, 40]), at(86_400)), Bound::Free);
    // The clock was set back by a year: no loop.
    assert_eq!(bound(&terms, &past(&[0, 20, 40]), at(-31_536_000)), Bound::Exhausted(3));
    let mut acknowledged = past(&[0, 20, 40]);
    acknowledged.attempts.iter_mut().for_each(|attempt| attempt.acknowledged = true);
    assert_eq!(bound(&terms, &acknowledged, at(60)), Bound::Free);
}

#[test]
fn whatever_the_past_a_candidate_is_fit_and_recoveries_come_to_an_end() {
    let mut seed = 7_u64;
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for _ in 0..500 {
        let sets: Vec<SetRecord> = (0..next(12))
            .map(|n| {
                let mut set =
                    set(&format!("s{n}"), i64::try_from(next(50)).unwrap(), ["1", "2"][next(2) as usize]);
                set.outcome = [None, Some(Outcome::Succeeded), Some(Outcome::Warning)][next(3) as usize];
                set
            })
            .collect();
        let mut past = Past { sick: vec![format!("js{}", next(12))], ..Past::default() };
        let mut used = Vec::new();
        while let Some(snapshot) = chosen(&sets, &past, "1") {
            let of = sets.iter().find(|set| set.snapshot == snapshot).unwrap();
            assert!(
                of.version == "1" && of.outcome != Some(Outcome::Warning) && !past.sick.contains(&of.set)
            );
            assert!(!used.contains(&snapshot), "tried twice: {snapshot}");
            past.attempts.push(attempt(&snapshot, 0, true));
            used.push(snapshot);
        }
        assert!(used.len() <= sets.len());
    }
}
