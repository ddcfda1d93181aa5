//! The normal form of an expression.

use jiff::tz::TimeZone;

use super::Rule;
use super::days::{Days, LAST};
use super::field::{Field, Part, values};
use super::spec::Spec;

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Calendar syntax where it can say it, cron with six fields otherwise, `every` with the fewest units.
pub(super) fn normal(rule: &Rule, zone: Option<&TimeZone>) -> String {
    let rule = match rule {
        Rule::Every(seconds) => return format!("every {}", interval(*seconds)),
        Rule::Calendar(spec) => spec,
    };
    let text = if needs_cron(&rule.days) { cron(rule) } else { calendar(rule) };
    match zone.and_then(TimeZone::iana_name) {
        Some(name) => format!("{text} {name}"),
        None => text,
    }
}

/// `1d12h` and the like.
pub(super) fn interval(seconds: i64) -> String {
    let mut rest = seconds;
    let mut text = String::new();
    for (unit, length) in [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)] {
        if rest >= length {
            text.push_str(&format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    text
}

fn needs_cron(days: &Days) -> bool {
    days.either || days.nth != [0; 7] || (days.numbers.is_some() && days.from_end.is_some())
}

fn calendar(spec: &Spec) -> String {
    let weekdays = match &spec.days.weekdays {
        Some(field) if !field.is_all() => format!("{} ", weekday_names(field)),
        _ => String::new(),
    };
    let year = if spec.years.0.is_empty() { "*".to_owned() } else { years(&spec.years.0) };
    let day = match (&spec.days.from_end, &spec.days.numbers) {
        (Some(positions), _) => format!("~{}", plain(positions, "..", 2)),
        (None, Some(numbers)) => format!("-{}", plain(numbers, "..", 2)),
        (None, None) => "-*".to_owned(),
    };
    let month = plain(&spec.months, "..", 2);
    let (hour, minute, second) =
        (hours(spec, "..", 2), plain(&spec.minutes, "..", 2), plain(&spec.seconds, "..", 2));
    format!("{weekdays}{year}-{month}{day} {hour}:{minute}:{second}")
}

fn cron(spec: &Spec) -> String {
    let last = spec.days.from_end.as_ref().map(|_| "L".to_owned());
    let numbers = spec.days.numbers.as_ref().map(|field| plain(field, "-", 1));
    let day = [numbers, last].into_iter().flatten().collect::<Vec<_>>().join(",");
    let month = plain(&spec.months, "-", 1);
    let (hour, minute, second) =
        (hours(spec, "-", 1), plain(&spec.minutes, "-", 1), plain(&spec.seconds, "-", 1));
    format!("{second} {minute} {hour} {day} {month} {}", cron_weekdays(&spec.days))
}

fn cron_weekdays(days: &Days) -> String {
    let mut items = Vec::new();
    match &days.weekdays {
        Some(field) if field.is_all() => return "*".to_owned(),
        Some(field) => {
            items.push(values(field.bits()).map(|day| WEEKDAYS[day as usize]).collect::<Vec<_>>().join(","))
        }
        None => {}
    }
    for (day, weeks) in days.nth.iter().enumerate() {
        items.extend(values(u64::from(*weeks)).map(|week| match week {
            LAST => format!("{}#L", WEEKDAYS[day]),
            week => format!("{}#{week}", WEEKDAYS[day]),
        }));
    }
    let both = !days.either && !days.any_number();
    format!("{}{}", if both { "+" } else { "" }, items.join(","))
}

fn weekday_names(field: &Field) -> String {
    list(field, |day| WEEKDAYS[day as usize].to_owned(), "..")
}

fn plain(field: &Field, range: &str, width: usize) -> String {
    if field.is_all() { "*".to_owned() } else { list(field, |value| format!("{value:0width$}"), range) }
}

/// A step of hours must stay one: it makes the slots real time.
fn hours(spec: &Spec, range: &str, width: usize) -> String {
    if spec.hours.is_all() || !spec.hours.repeats() {
        return plain(&spec.hours, range, width);
    }
    let parts = spec.hours.parts().iter().map(|part| stepped(*part, range, width));
    parts.collect::<Vec<_>>().join(",")
}

fn stepped(part: Part, range: &str, width: usize) -> String {
    let Part { start, end, step } = part;
    match (start == end, step) {
        (true, _) => format!("{start:0width$}"),
        (false, 0) => format!("{start:0width$}{range}{end:0width$}"),
        (false, _) if end == 23 && range == ".." => format!("{start:0width$}/{step}"),
        (false, _) => format!("{start:0width$}{range}{end:0width$}/{step}"),
    }
}

/// Three neighbours or more as a range, the others one by one.
fn list(field: &Field, name: impl Fn(u32) -> String, range: &str) -> String {
    let mut items = Vec::new();
    for (start, end) in field.runs() {
        match end - start {
            0 => items.push(name(start)),
            1 => items.extend([name(start), name(end)]),
            _ => items.push(format!("{}{range}{}", name(start), name(end))),
        }
    }
    items.join(",")
}

fn years(parts: &[Part]) -> String {
    let items = parts.iter().map(|part| match (part.start == part.end, part.step) {
        (true, _) => format!("{:04}", part.start),
        (false, 0) => format!("{:04}..{:04}", part.start, part.end),
        (false, step) if part.end == super::field::Years::MAX => format!("{:04}/{step}", part.start),
        (false, step) => format!("{:04}..{:04}/{step}", part.start, part.end),
    });
    items.collect::<Vec<_>>().join(",")
}
