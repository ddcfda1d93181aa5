//! An expression as an English sentence.

use jiff::tz::TimeZone;

use super::Rule;
use super::days::{Days, LAST};
use super::field::{Field, Part, values};
use super::spec::Spec;

const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// "every day at 02:30, Europe/Rome time" and the like.
pub(super) fn sentence(rule: &Rule, zone: Option<&TimeZone>) -> String {
    let spec = match rule {
        Rule::Every(seconds) => return interval(*seconds),
        Rule::Calendar(spec) => spec,
    };
    let parts = [Some(days(&spec.days)), months(spec), years(spec), Some(times(spec))];
    let text = parts.into_iter().flatten().collect::<Vec<_>>().join(" ");
    match zone.and_then(TimeZone::iana_name) {
        Some(name) => format!("{text}, {name} time"),
        None => text,
    }
}

fn interval(seconds: i64) -> String {
    let units = [("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1)];
    let mut rest = seconds;
    let mut items = Vec::new();
    for (unit, length) in units {
        if rest >= length {
            items.push(count(rest / length, unit));
            rest %= length;
        }
    }
    match items.as_slice() {
        [one] => format!("every {}, counted from the last slot", one.strip_prefix("1 ").unwrap_or(one)),
        _ => format!("every {}, counted from the last slot", and(&items)),
    }
}

fn count(number: i64, unit: &str) -> String {
    if number == 1 { format!("1 {unit}") } else { format!("{number} {unit}s") }
}

fn days(days: &Days) -> String {
    let numbers = (!days.any_number()).then(|| day_numbers(days));
    let weekdays = (!days.any_weekday()).then(|| weekday_names(days));
    match (numbers, weekdays) {
        (None, None) => "every day".to_owned(),
        (Some(numbers), None) => format!("on {numbers} of the month"),
        (None, Some(weekdays)) => format!("on {weekdays}"),
        (Some(numbers), Some(weekdays)) if days.either => {
            format!("on {numbers} of the month and on {weekdays}")
        }
        (Some(numbers), Some(weekdays)) => format!("on {numbers} of the month if it is {weekdays}"),
    }
}

fn day_numbers(days: &Days) -> String {
    let mut items = Vec::new();
    if let Some(numbers) = &days.numbers {
        let word = if numbers.single().is_some() { "day" } else { "days" };
        items.push(format!("{word} {}", runs(numbers, |day| day.to_string())));
    }
    for position in
        values(days.from_end.as_ref().map_or(0, Field::bits)).collect::<Vec<_>>().into_iter().rev()
    {
        items.push(if position == 1 {
            "the last day".to_owned()
        } else {
            format!("the {} last day", ordinal(position))
        });
    }
    and(&items)
}

fn weekday_names(days: &Days) -> String {
    let mut items = Vec::new();
    if let Some(weekdays) = &days.weekdays {
        items.push(runs(weekdays, |day| WEEKDAYS[day as usize].to_owned()));
    }
    for (day, weeks) in days.nth.iter().enumerate() {
        items.extend(values(u64::from(*weeks)).map(|week| match week {
            LAST => format!("the last {}", WEEKDAYS[day]),
            week => format!("the {} {}", ordinal(week), WEEKDAYS[day]),
        }));
    }
    and(&items)
}

fn months(spec: &Spec) -> Option<String> {
    (!spec.months.is_all())
        .then(|| format!("in {}", runs(&spec.months, |month| MONTHS[month as usize - 1].to_owned())))
}

fn years(spec: &Spec) -> Option<String> {
    let items = spec.years.0.iter().map(|part| year_range(*part)).collect::<Vec<_>>();
    (!items.is_empty()).then(|| and(&items))
}

fn year_range(part: Part) -> String {
    let Part { start, end, step } = part;
    let open = end == super::field::Years::MAX;
    match (start == end, step) {
        (true, _) => format!("in {start}"),
        (false, 0) => format!("from {start} to {end}"),
        (false, step) if open => format!("every {step} years from {start}"),
        (false, step) => format!("every {step} years from {start} to {end}"),
    }
}

/// The longest list of single times that is still pleasant to read.
const MOST_TIMES: u32 = 6;

fn times(spec: &Spec) -> String {
    let count = [&spec.hours, &spec.minutes, &spec.seconds]
        .iter()
        .map(|field| field.bits().count_ones())
        .product::<u32>();
    if count <= MOST_TIMES && !spec.hours.is_all() {
        return format!("at {}", and(&clock_times(spec)));
    }
    let seconds = (spec.seconds.bits() != 1).then(|| steps(&spec.seconds, "second", 60));
    let minutes =
        Some(steps(&spec.minutes, "minute", 60)).filter(|text| seconds.is_none() || text != "every minute");
    let hours = if spec.hours.is_all()
        && !spec.minutes.is_all()
        && minutes.as_deref().is_some_and(|m| m.starts_with("at"))
    {
        Some("of every hour".to_owned())
    } else if spec.hours.is_all() {
        None
    } else if spec.hours.repeats() {
        Some(format!("in the hours {}", runs(&spec.hours, |hour| format!("{hour:02}"))))
    } else {
        Some(format!("in {} {}", hour_word(&spec.hours), runs(&spec.hours, |hour| format!("{hour:02}"))))
    };
    [seconds, minutes, hours].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

const fn hour_word(hours: &Field) -> &'static str {
    if hours.single().is_some() { "the hour" } else { "the hours" }
}

fn clock_times(spec: &Spec) -> Vec<String> {
    let mut times = Vec::new();
    for hour in values(spec.hours.bits()) {
        for minute in values(spec.minutes.bits()) {
            times.extend(values(spec.seconds.bits()).map(|second| match second {
                0 => format!("{hour:02}:{minute:02}"),
                _ => format!("{hour:02}:{minute:02}:{second:02}"),
            }));
        }
    }
    times
}

/// "every 15 minutes" where the values go evenly around the clock, "at minutes 5, 10 and 20" otherwise.
fn steps(field: &Field, unit: &str, length: u32) -> String {
    let all = values(field.bits()).collect::<Vec<_>>();
    if field.is_all() {
        return format!("every {unit}");
    }
    let even = length / all.len() as u32;
    if all.len() > 1
        && all.iter().enumerate().all(|(index, value)| *value == index as u32 * even)
        && even * all.len() as u32 == length
    {
        return format!("every {even} {unit}s");
    }
    let word = if all.len() == 1 { unit.to_owned() } else { format!("{unit}s") };
    format!("at {word} {}", runs(field, |value| value.to_string()))
}

fn runs(field: &Field, name: impl Fn(u32) -> String) -> String {
    let mut items = Vec::new();
    for (start, end) in field.runs() {
        match end - start {
            0 => items.push(name(start)),
            1 => items.extend([name(start), name(end)]),
            _ => items.push(format!("{} to {}", name(start), name(end))),
        }
    }
    and(&items)
}

fn and(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [many @ .., last] => format!("{} and {last}", many.join(", ")),
    }
}

fn ordinal(number: u32) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}
