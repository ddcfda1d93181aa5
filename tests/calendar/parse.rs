//! Notations: what they mean, and where bad input is marked.

use holdfast::calendar::{Schedule, explain};
use jiff::tz::TimeZone;

use crate::{instant, slots};

#[test]
fn every_notation_has_a_normal_form_and_a_sentence() {
    let table = [
        ("hourly", "*-*-* *:00:00", "every day at minute 0 of every hour"),
        ("minutely", "*-*-* *:*:00", "every day every minute"),
        ("Daily", "*-*-* 00:00:00", "every day at 00:00"),
        ("weekly", "Mon *-*-* 00:00:00", "on Monday at 00:00"),
        ("monthly", "*-*-01 00:00:00", "on day 1 of the month at 00:00"),
        (
            "quarterly",
            "*-01,04,07,10-01 00:00:00",
            "on day 1 of the month in January, April, July and October at 00:00",
        ),
        ("semiannually", "*-01,07-01 00:00:00", "on day 1 of the month in January and July at 00:00"),
        ("yearly", "*-01-01 00:00:00", "on day 1 of the month in January at 00:00"),
        ("annually", "*-01-01 00:00:00", "on day 1 of the month in January at 00:00"),
        ("Mon..Fri 02:30", "Mon..Fri *-*-* 02:30:00", "on Monday to Friday at 02:30"),
        ("*-*-01 04:00", "*-*-01 04:00:00", "on day 1 of the month at 04:00"),
        ("*:0/15", "*-*-* *:00,15,30,45:00", "every day every 15 minutes"),
        (
            "Sat *-*-1..7 18:00",
            "Sat *-*-01..07 18:00:00",
            "on days 1 to 7 of the month if it is Saturday at 18:00",
        ),
        (
            "*-*~01 04:00 Europe/Rome",
            "*-*~01 04:00:00 Europe/Rome",
            "on the last day of the month at 04:00, Europe/Rome time",
        ),
        (
            "Mon *-05~07/1",
            "Mon *-05~01..07 00:00:00",
            "on the 7th last day, the 6th last day, the 5th last day, the 4th last day, the 3rd last day, the 2nd last day and the last day of the month if it is Monday in May at 00:00",
        ),
        ("Wed, 17:48", "Wed *-*-* 17:48:00", "on Wednesday at 17:48"),
        (
            "Wed..Sat,Tue 12-10-16 1:2:3",
            "Tue..Sat 2012-10-16 01:02:03",
            "on day 16 of the month if it is Tuesday to Saturday in October in 2012 at 01:02:03",
        ),
        (
            "2026/2-1-1",
            "2026/2-01-01 00:00:00",
            "on day 1 of the month in January every 2 years from 2026 at 00:00",
        ),
        ("02/4:30", "*-*-* 02/4:30:00", "every day at 02:30, 06:30, 10:30, 14:30, 18:30 and 22:30"),
        ("30 2 * * *", "*-*-* 02:30:00", "every day at 02:30"),
        ("15 30 2 * * mon-fri", "Mon..Fri *-*-* 02:30:15", "on Monday to Friday at 02:30:15"),
        ("0 */6 * * *", "*-*-* 00/6:00:00", "every day at 00:00, 06:00, 12:00 and 18:00"),
        ("0 4 1,15 * FRI", "0 0 4 1,15 * Fri", "on days 1 and 15 of the month and on Friday at 04:00"),
        ("0 4 L * *", "*-*~01 04:00:00", "on the last day of the month at 04:00"),
        ("0 4 * * 5L", "0 0 4 * * Fri#L", "on the last Friday at 04:00"),
        ("0 4 * * MON#2", "0 0 4 * * Mon#2", "on the 2nd Monday at 04:00"),
        ("0 4 1-7 * +MON", "Mon *-*-01..07 04:00:00", "on days 1 to 7 of the month if it is Monday at 04:00"),
        ("@daily", "*-*-* 00:00:00", "every day at 00:00"),
        ("@weekly", "Sun *-*-* 00:00:00", "on Sunday at 00:00"),
        ("CRON_TZ=Asia/Tokyo 0 0 * * *", "*-*-* 00:00:00 Asia/Tokyo", "every day at 00:00, Asia/Tokyo time"),
        ("every 6h", "every 6h", "every 6 hours, counted from the last slot"),
        ("every 90s", "every 1m30s", "every 1 minute and 30 seconds, counted from the last slot"),
        ("every 1d", "every 1d", "every day, counted from the last slot"),
        ("every 1 week", "", ""),
    ];
    for (text, normal, sentence) in table {
        if normal.is_empty() {
            assert!(Schedule::parse(text).is_err(), "{text}");
            continue;
        }
        let schedule = Schedule::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        assert_eq!(schedule.text(), text);
        assert_eq!(schedule.normal(), normal, "{text}");
        assert_eq!(schedule.sentence(), sentence, "{text}");
        assert_eq!(Schedule::parse(normal).unwrap().normal(), normal, "{text}");
    }
}

#[test]
fn bad_input_is_refused_with_its_place() {
    let table = [
        ("", "", "the expression is empty"),
        ("   ", "   ", "the expression is empty"),
        ("dayly", "dayly", "neither a keyword nor a weekday"),
        ("*-02-30", "*-02-30", "no date can ever match"),
        ("Wed..Sat,Tue 12-10-15 1:2:3", "Wed..Sat,Tue 12-10-15 1:2:3", "no date can ever match"),
        ("30 2 30 2 *", "30 2 30 2 *", "no date can ever match"),
        ("Mon *-*-* 25:00", "25", "25 is not an hour"),
        ("02:60", "60", "60 is not a minute"),
        ("*:0/0", "0", "a step of 0"),
        ("*:0/70", "70", "leads beyond"),
        ("*/0 * * * *", "0", "a step of 0"),
        ("*/-5 * * * *", "-", "found `-` where a step should be"),
        ("5/15 * * * *", "5/15", "a step needs a range in cron"),
        ("30 2 * * * * 2026", "30 2 * * * * 2026", "cron has 5 or 6 fields, here are 7"),
        ("30 2 * *", "30 2 * *", "cron has 5 or 6 fields, here are 4"),
        ("30 2 * * MOO", "MOO", "`MOO`"),
        ("30 2 * 13 *", "13", "13 is not a month"),
        ("30 2 15W * *", "15W", "`W`"),
        ("30 2 * * MON#6", "6", "1 to 5 times"),
        ("02:30 Europe/Rom", "Europe/Rom", "no time zone"),
        ("02:30 Mars", "Mars", "no time zone"),
        ("TZ=Europe/Rome", "TZ=Europe/Rome", "a time zone alone"),
        ("٣:00", "٣", "has no meaning here"),
        ("02:30\n", "\n", "has no meaning here"),
        ("22..02:00", "22..02", "ends before it begins"),
        ("12", "12", "neither a date nor a time"),
        ("02:30:00.5", "00.5", "whole seconds"),
        ("99999999999999999999:00", "99999999999999999999", "is not an hour"),
        ("*-*-32", "32", "is not a day of the month"),
        ("*~*-1", "*~*-1", "`~` may stand only before the day"),
        ("1969-1-1", "1969", "years go from 1970"),
        ("*/2-1-1", "*/2", "`*` stands alone"),
        ("@reboot", "@reboot", "no time"),
        ("@fortnightly", "@fortnightly", "no macro"),
        ("every", "", "needs an interval"),
        ("every 0h", "0h", "longer than nothing"),
        ("every 6", "6", "has no unit"),
        ("every -6h", "-", "found `-`"),
        ("every 6x", "x", "no unit of time"),
        ("every 99999999999h", "99999999999h", "longer than ten years"),
        ("every 99999999999999999999h", "99999999999999999999", "too large"),
        ("Mon..", "", "a weekday is missing"),
        ("02:30 Mon", "Mon", "one word too many"),
        ("::", "", "an hour is missing"),
        ("-", "", "a month is missing"),
        ("~", "", "a month is missing"),
        ("Mon,,Tue", "", "a weekday is missing"),
        ("*-*-1,", "", "a day of the month is missing"),
    ];
    for (text, place, message) in table {
        let error = Schedule::parse(text).expect_err(text);
        assert!(error.message.contains(message), "{text:?}: {error:?}");
        let marked =
            text.get(error.offset..error.offset + error.len).unwrap_or_else(|| panic!("{text}: {error:?}"));
        assert_eq!(marked, place, "{text:?}: {error:?}");
    }
}

#[test]
fn an_expression_of_ten_thousand_bytes_is_refused() {
    let error = Schedule::parse(&"0,".repeat(5000)).unwrap_err();
    assert_eq!((error.message.as_str(), error.offset), ("the expression is too long", 1000));
}

#[test]
fn misspelt_words_get_a_suggestion() {
    for (text, help) in
        [("dayly", "`daily`"), ("Mondey 02:00", "`Monday`"), ("02:30 Europe/Rom", "`Europe/Rome`")]
    {
        let error = Schedule::parse(text).unwrap_err();
        assert!(error.help.as_deref().is_some_and(|found| found.contains(help)), "{error:?}");
    }
}

#[test]
fn equal_expressions_are_equal_schedules() {
    assert_eq!(Schedule::parse("daily").unwrap(), Schedule::parse("daily").unwrap());
    assert_ne!(Schedule::parse("daily").unwrap(), Schedule::parse("weekly").unwrap());
}

#[test]
fn cron_joins_day_of_month_and_weekday_with_or_unless_one_begins_with_a_star() {
    let days = |expr| slots(expr, "UTC", "2026-06-01T00:00:00Z", "2026-06-30T23:00:00Z").len();
    assert_eq!(days("0 4 3 * MON"), 6);
    assert_eq!(days("0 4 */2 * MON"), 3);
    assert_eq!(days("0 4 * * MON"), 5);
    assert_eq!(days("0 4 1-7 * +MON"), 1);
}

#[test]
fn rare_days_come_when_they_exist() {
    let days = |expr: &str| {
        let found = slots(expr, "UTC", "2026-01-30T12:00:00Z", "2099-01-01T00:00:00Z");
        found.into_iter().take(2).map(|slot| slot[..10].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(days("*-02-29"), ["2028-02-29", "2032-02-29"]);
    assert_eq!(days("*-*-31"), ["2026-01-31", "2026-03-31"]);
    assert_eq!(days("*-02~01"), ["2026-02-28", "2027-02-28"]);
    assert_eq!(days("Mon *-02-29"), ["2044-02-29", "2072-02-29"]);
    assert_eq!(days("0 0 29 2 +MON"), ["2044-02-29", "2072-02-29"]);
    assert_eq!(days("0 0 * * FRI#5"), ["2026-05-29", "2026-07-31"]);
}

#[test]
fn the_end_of_32_bit_time_and_of_the_calendar_are_no_obstacle() {
    let zone = TimeZone::get("Europe/Rome").unwrap();
    let daily = Schedule::parse("02:30").unwrap();
    let next = |at: &str| daily.next_after(instant(at), &zone, None);
    assert_eq!(next("2038-01-19T03:14:07Z"), Some(instant("2038-01-20T01:30:00Z")));
    assert_eq!(next("2106-02-07T06:28:15Z"), Some(instant("2106-02-08T01:30:00Z")));
    assert_eq!(next("9998-12-31T23:00:00Z"), Some(instant("9999-01-01T01:30:00Z")));
    assert_eq!(next("9999-12-30T22:00:00Z"), None);
    let every = Schedule::parse("every 6h").unwrap();
    assert_eq!(every.next_after(instant("9999-12-30T22:00:00Z"), &zone, None), None);
    assert_eq!(
        every.next_after(jiff::Timestamp::MIN, &zone, Some(jiff::Timestamp::MAX)).map(|_| ()),
        Some(())
    );
    assert_eq!(daily.latest_at_or_before(jiff::Timestamp::MIN, &zone, None), None);
}

#[test]
fn a_past_year_parses_and_never_comes() {
    let past = Schedule::parse("2020-01-01").unwrap();
    assert_eq!(past.next_after(instant("2026-01-01T00:00:00Z"), &TimeZone::UTC, None), None);
    assert_eq!(
        past.latest_at_or_before(instant("2026-01-01T00:00:00Z"), &TimeZone::UTC, None),
        Some(instant("2020-01-01T00:00:00Z"))
    );
}

#[test]
fn intervals_count_from_their_anchor() {
    let every = Schedule::parse("every 6h").unwrap();
    let anchor = Some(instant("2026-01-01T01:20:30Z"));
    let at = instant("2026-01-01T09:00:00.5Z");
    let utc = TimeZone::UTC;
    assert_eq!(every.next_after(at, &utc, anchor), Some(instant("2026-01-01T13:20:30Z")));
    assert_eq!(every.latest_at_or_before(at, &utc, anchor), Some(instant("2026-01-01T07:20:30Z")));
    assert_eq!(every.next_after(at, &utc, None), Some(instant("2026-01-01T12:00:00Z")));
    assert_eq!(
        every.next_after(instant("2025-12-31T22:00:00Z"), &utc, anchor),
        Some(instant("2026-01-01T01:20:30Z"))
    );
}

#[test]
fn an_explanation_is_what_the_command_prints_as_json() {
    let zone = TimeZone::get("America/New_York").unwrap();
    let found = explain("Mon..Fri 02:30 Europe/Rome", &zone, instant("2026-03-27T12:00:00Z"), 2).unwrap();
    assert_eq!(
        serde_json::to_value(&found).unwrap(),
        serde_json::json!({
            "normal": "Mon..Fri *-*-* 02:30:00 Europe/Rome",
            "sentence": "on Monday to Friday at 02:30, Europe/Rome time",
            "next": ["2026-03-30T02:30:00+02:00", "2026-03-31T02:30:00+02:00"],
        })
    );
}

#[test]
fn the_zone_of_an_expression_wins() {
    let tokyo = slots("02:30 Asia/Tokyo", "UTC", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    assert_eq!(tokyo, ["2026-01-01 17:30:00 +00:00"]);
}
