//! Random calendar expressions against `systemd-analyze calendar`, in UTC, where no change of offset makes the two differ
//! on purpose. `HOLDFAST_SOAK=1` runs 5,000 of them, otherwise 300.

use std::process::Command;
use std::str::FromStr;

use holdfast::calendar::Schedule;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::random::Dice;

const ITERATIONS: usize = 4;

#[test]
fn random_expressions_elapse_when_systemd_says() {
    let count = if std::env::var_os("HOLDFAST_SOAK").is_some() { 5000 } else { 300 };
    let mut dice = Dice::new(7);
    let (mut compared, mut never) = (0, 0);
    while compared + never < count {
        let expr = expression(&mut dice);
        let base = 1_500_000_000 + i64::from(dice.below(1_000_000_000));
        let Some(expected) = systemd(&expr, base) else { panic!("systemd-analyze refuses `{expr}`") };
        let found = ours(&expr, base);
        assert_eq!(found, expected, "`{expr}` after {}", Timestamp::from_second(base).unwrap());
        if expected.is_empty() { never += 1 } else { compared += 1 }
    }
    assert!(compared > count / 2, "{compared} of {count} ever elapse");
}

/// Normal forms are calendar expressions that systemd reads too.
#[test]
fn systemd_reads_our_normal_forms() {
    let mut dice = Dice::new(11);
    for _ in 0..60 {
        let expr = expression(&mut dice);
        let Ok(schedule) = Schedule::parse(&expr) else { continue };
        let base = 1_800_000_000;
        assert_eq!(
            systemd(&schedule.normal(), base),
            systemd(&expr, base),
            "`{expr}` as `{}`",
            schedule.normal()
        );
    }
}

fn ours(expr: &str, base: i64) -> Vec<String> {
    let Ok(schedule) = Schedule::parse(expr) else { return Vec::new() };
    let next = |after: Timestamp| schedule.next_after(after, &TimeZone::UTC, None);
    let slots = std::iter::successors(next(Timestamp::from_second(base).unwrap()), |slot| next(*slot));
    // systemd's calendar ends in 2199
    let slots = slots.take_while(|slot| *slot < Timestamp::constant(7_258_118_400, 0));
    slots.take(ITERATIONS).map(|slot| TimeZone::UTC.to_datetime(slot).to_string()).collect()
}

#[expect(clippy::disallowed_methods, reason = "the daemon's room for processes is not what is tested here")]
fn systemd(expr: &str, base: i64) -> Option<Vec<String>> {
    let output = Command::new("systemd-analyze")
        .args([
            "calendar",
            &format!("--iterations={ITERATIONS}"),
            &format!("--base-time=@{base}"),
            "--",
            expr,
        ])
        .env("TZ", "UTC")
        .env("LC_ALL", "C.UTF-8")
        .output()
        .expect("systemd-analyze must be installed: `apt-get install systemd`");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter_map(|line| {
        let (label, value) = line.trim().split_once(": ")?;
        (label == "Next elapse" || label.starts_with("Iter")).then_some(value)
    });
    let slots = lines.filter(|value| *value != "never").map(|value| {
        let value = value.strip_suffix(" UTC").unwrap().split_once(' ').unwrap().1;
        DateTime::from_str(&value.replace(' ', "T")).unwrap().to_string()
    });
    output.status.success().then(|| slots.collect())
}

fn expression(dice: &mut Dice) -> String {
    let weekdays = if dice.one_in(2) { String::new() } else { weekdays(dice) + " " };
    let year = if dice.one_in(6) { field(dice, 2015, 2050, 4) } else { "*".to_owned() };
    let month = if dice.one_in(2) { "*".to_owned() } else { field(dice, 1, 12, 2) };
    let day = match dice.below(4) {
        0 => "-*".to_owned(),
        1 => format!("~{}", from_end(dice)),
        _ => format!("-{}", field(dice, 1, 31, 2)),
    };
    let date = if dice.one_in(3) { String::new() } else { format!("{year}-{month}{day} ") };
    let hour = if dice.one_in(4) { "*".to_owned() } else { field(dice, 0, 23, 2) };
    let minute = if dice.one_in(4) { "*".to_owned() } else { field(dice, 0, 59, 2) };
    let second = if dice.one_in(2) { String::new() } else { format!(":{}", field(dice, 0, 59, 2)) };
    format!("{weekdays}{date}{hour}:{minute}{second}")
}

fn weekdays(dice: &mut Dice) -> String {
    const NAMES: [&str; 7] = ["Mon", "Tuesday", "wed", "Thu", "FRI", "Saturday", "Sun"];
    let items = (0..=dice.below(2)).map(|_| {
        let first = dice.below(7) as usize;
        let last = first + dice.below(7 - first as u32) as usize;
        if first == last { NAMES[first].to_owned() } else { format!("{}..{}", NAMES[first], NAMES[last]) }
    });
    items.collect::<Vec<_>>().join(",")
}

fn field(dice: &mut Dice, min: u32, max: u32, width: usize) -> String {
    let items = (0..=dice.below(3)).map(|_| {
        let start = min + dice.below(max - min);
        let end = start + 1 + dice.below(max - start);
        let width = if dice.one_in(2) { width } else { 1 };
        match dice.below(5) {
            0 => format!("{start:0width$}..{end:0width$}"),
            1 => format!("{start:0width$}/{}", 1 + dice.below((max - start).max(1))),
            2 => format!("{start:0width$}..{end:0width$}/{}", 1 + dice.below((end - start).max(1))),
            _ => format!("{start:0width$}"),
        }
    });
    items.collect::<Vec<_>>().join(",")
}

/// Positions that every month has: beyond them systemd's ranges turn around.
fn from_end(dice: &mut Dice) -> String {
    let start = 2 + dice.below(20);
    match dice.below(3) {
        0 => format!("{start:02}..{:02}", start + 1 + dice.below(6)),
        1 => format!("{start:02}/{}", 1 + dice.below(start - 1)),
        _ => format!("{:02}", 1 + dice.below(28)),
    }
}
