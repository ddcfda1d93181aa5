//! Laws that hold for every expression, instant and zone; and cron against croner.

use holdfast::calendar::Schedule;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;

use crate::between;

/// Numbers that are the same in each run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % u64::from(end)) as u32
    }

    pub(crate) fn one_in(&mut self, chances: u32) -> bool {
        self.below(chances) == 0
    }

    pub(crate) fn pick<'a>(&mut self, items: &[&'a str]) -> &'a str {
        items[self.below(items.len() as u32) as usize]
    }
}

pub(crate) const ZONES: [&str; 10] = [
    "UTC",
    "Europe/Berlin",
    "Europe/London",
    "America/New_York",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Africa/Casablanca",
    "Pacific/Apia",
    "Antarctica/Troll",
];

const EXPRESSIONS: [&str; 18] = [
    "hourly",
    "02:30",
    "weekly",
    "quarterly",
    "*:0/7",
    "Mon..Fri 00..05:10,40",
    "*-*~01 04:00",
    "*-02-29 02:15",
    "02/4:30",
    "*:*:0/20",
    "30 2 * * *",
    "0 */3 * * *",
    "5 0 1,15 * SUN",
    "0 3 * * FRI#L",
    "every 7h",
    "every 100s",
    "2027..2031-*-1..7 01:59:59",
    "03:00 America/Sao_Paulo",
];

fn schedules() -> impl Strategy<Value = Schedule> {
    proptest::sample::select(&EXPRESSIONS[..]).prop_map(|expr| Schedule::parse(expr).unwrap())
}

fn zones() -> impl Strategy<Value = TimeZone> {
    proptest::sample::select(&ZONES[..]).prop_map(|name| TimeZone::get(name).unwrap())
}

/// From 1980 to 2060, often near a change of some zone.
fn instants() -> impl Strategy<Value = Timestamp> {
    (315_532_800_i64..2_840_140_800, 0..1_000_000_000_i32).prop_map(|(second, nanosecond)| {
        let near_change = 1_774_746_000 + second % 40_000 - 20_000; // 29 March 2026, 01:00 UTC
        let second = if second % 3 == 0 { near_change } else { second };
        Timestamp::new(second, nanosecond).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_next_slot_lies_ahead_and_is_the_nearest(schedule in schedules(), zone in zones(), at in instants()) {
        if let Some(next) = schedule.next_after(at, &zone, None) {
            prop_assert!(next > at);
            prop_assert_eq!(next.subsec_nanosecond(), 0);
            prop_assert_eq!(schedule.latest_at_or_before(next, &zone, None), Some(next));
            let before = schedule.latest_at_or_before(next - 1.nanosecond(), &zone, None);
            prop_assert!(before.is_none_or(|before| before <= at), "{:?} lies between {} and {}", before, at, next);
        }
    }

    #[test]
    fn the_latest_slot_lies_behind_and_is_followed_by_the_next(schedule in schedules(), zone in zones(), at in instants()) {
        if let Some(latest) = schedule.latest_at_or_before(at, &zone, None) {
            prop_assert!(latest <= at);
            prop_assert_eq!(schedule.next_after(latest - 1.nanosecond(), &zone, None), Some(latest));
            let next = schedule.next_after(latest, &zone, None);
            prop_assert!(next.is_none_or(|next| next > at));
        }
    }

    #[test]
    fn a_later_question_never_has_an_earlier_answer(
        schedule in schedules(), zone in zones(), at in instants(), later in 0..200_000_i64,
    ) {
        let first = schedule.next_after(at, &zone, None);
        let second = schedule.next_after(at + later.seconds(), &zone, None);
        prop_assert!(second.is_none() || first <= second);
    }

    #[test]
    fn daily_runs_once_a_civil_day_in_every_zone(zone in zones(), at in instants(), hour in 0..24, minute in 0..60) {
        let schedule = Schedule::parse(&format!("{hour}:{minute}")).unwrap();
        let slots = between(&schedule, &zone, at, at + (40 * 24).hours());
        let gaps = slots.windows(2).map(|pair| (pair[1] - pair[0]).get_seconds() / 3600);
        // 23 to 25 hours; Troll changes by two; Apia skipped a day in 2011
        prop_assert!(gaps.clone().all(|gap| (22..=26).contains(&gap)), "{:?}", gaps.collect::<Vec<_>>());
        prop_assert!((39..=41).contains(&slots.len()));
    }

    #[test]
    fn the_normal_form_has_the_same_slots(schedule in schedules(), zone in zones(), at in instants()) {
        let normal = Schedule::parse(&schedule.normal()).unwrap();
        prop_assert_eq!(normal.next_after(at, &zone, None), schedule.next_after(at, &zone, None));
        prop_assert_eq!(normal.normal(), schedule.normal());
    }

    #[test]
    fn no_input_panics_and_every_error_marks_a_place(text in "[ -~\u{e9}\u{663}]{0,24}") {
        if let Err(error) = Schedule::parse(&text) {
            prop_assert!(text.get(error.offset..error.offset + error.len).is_some(), "{:?}", error);
            prop_assert!(!error.message.is_empty());
        }
    }

    #[test]
    fn nothing_that_looks_like_an_expression_panics(text in "(Mon|Fri|L|every|UTC|daily|[0-9*/.,:~#?+-]{0,6}| ){0,8}") {
        if let Err(error) = Schedule::parse(&text) {
            prop_assert!(text.get(error.offset..error.offset + error.len).is_some(), "{:?}", error);
        }
    }
}

#[test]
fn random_cron_expressions_agree_with_croner() {
    let mut dice = Dice::new(3);
    let count = if std::env::var_os("HOLDFAST_SOAK").is_some() { 20_000 } else { 2000 };
    for _ in 0..count {
        let expr = cron(&mut dice);
        let at = Timestamp::from_second(1_500_000_000 + i64::from(dice.below(1_000_000_000))).unwrap();
        let ours = Schedule::parse(&expr).unwrap_or_else(|error| panic!("`{expr}`: {error:?}"));
        let theirs = expr.parse::<croner::Cron>().unwrap_or_else(|error| panic!("`{expr}`: {error}"));
        let mut expected = at.to_zoned(TimeZone::UTC);
        let mut found = at;
        for _ in 0..4 {
            expected = theirs.find_next_occurrence(&expected, false).unwrap();
            found = ours.next_after(found, &TimeZone::UTC, None).unwrap();
            assert_eq!(found, expected.timestamp(), "`{expr}` after {at}");
        }
    }
}

fn cron(dice: &mut Dice) -> String {
    let second = if dice.one_in(3) { numbers(dice, 0, 59) + " " } else { String::new() };
    let (minute, hour) = (numbers(dice, 0, 59), numbers(dice, 0, 23));
    // `*/n` beside the other field: croner joins with OR, Vixie's cron and ours with AND
    let day = match dice.below(4) {
        0 => "L".to_owned(),
        1 => (1 + dice.below(28)).to_string(),
        2 => format!("{}-{}", 1 + dice.below(10), 12 + dice.below(17)),
        _ => "*".to_owned(),
    };
    let month = if dice.one_in(3) {
        numbers(dice, 1, 12)
    } else {
        dice.pick(&["*", "JAN-JUN", "mar,Oct", "*"]).to_owned()
    };
    let weekday = dice.pick(&[
        "*",
        "*",
        "MON-FRI",
        "0",
        "7",
        "5-7",
        "sat",
        "1,3,5",
        "MON#2",
        "FRI#1,SUN#3",
        "5L",
        "TUE#5",
    ]);
    format!("{second}{minute} {hour} {day} {month} {weekday}")
}

fn numbers(dice: &mut Dice, min: u32, max: u32) -> String {
    if dice.one_in(3) {
        return dice.pick(&["*", "*/2", "*/5", "*/7"]).to_owned();
    }
    let items = (0..=dice.below(2)).map(|_| {
        let start = min + dice.below(max - min);
        let end = start + 1 + dice.below(max - start);
        match dice.below(4) {
            0 => format!("{start}-{end}"),
            1 => format!("{start}-{end}/{}", 1 + dice.below(end - start)),
            _ => start.to_string(),
        }
    });
    items.collect::<Vec<_>>().join(",")
}
