//! One field of an expression (hours, months, …): the values that it allows, and how they were written.

/// A value, a range or a range with a step, bounds included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    /// First value.
    pub(super) start: u16,
    /// Last value that the part may reach.
    pub(super) end: u16,
    /// Distance between values; 0 where no step was written.
    pub(super) step: u16,
}

impl Part {
    /// The single value.
    pub(super) const fn one(value: u16) -> Self {
        Self { start: value, end: value, step: 0 }
    }

    /// All values from `start` to `end`.
    pub(super) const fn range(start: u16, end: u16) -> Self {
        Self { start, end, step: 0 }
    }

    /// Distance between values, at least 1.
    pub(super) const fn stride(self) -> u16 {
        if self.step == 0 { 1 } else { self.step }
    }

    /// The smallest value at or above `from`.
    pub(super) const fn first_from(self, from: u16) -> Option<u16> {
        if from <= self.start {
            return Some(self.start);
        }
        let steps = (from - self.start).div_ceil(self.stride());
        let value = self.start as u32 + steps as u32 * self.stride() as u32;
        if value <= self.end as u32 { Some(value as u16) } else { None }
    }

    /// The largest value at or below `upto`.
    pub(super) const fn last_upto(self, upto: u16) -> Option<u16> {
        if upto < self.start {
            return None;
        }
        let top = if upto < self.end { upto } else { self.end };
        Some(top - (top - self.start) % self.stride())
    }

    /// Whether a step makes more than one value of this.
    pub(super) const fn repeats(self) -> bool {
        self.step > 0 && self.start as u32 + self.step as u32 <= self.end as u32
    }
}

/// The values that a field allows, all below 64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    bits: u64,
    parts: Vec<Part>,
    full: u64,
}

impl Field {
    /// Every value from `min` to `max`.
    pub(super) fn all(min: u16, max: u16) -> Self {
        Self::new(vec![Part::range(min, max)], min, max)
    }

    /// One value of the field from `min` to `max`.
    pub(super) fn only(value: u16, min: u16, max: u16) -> Self {
        Self::new(vec![Part::one(value)], min, max)
    }

    /// The union of parts that lie within `min..=max`.
    pub(super) fn new(mut parts: Vec<Part>, min: u16, max: u16) -> Self {
        parts.sort_unstable();
        parts.dedup();
        let bits = parts.iter().fold(0, |bits, part| bits | bits_of(*part));
        Self { bits, parts, full: bits_of(Part::range(min, max)) }
    }

    /// The allowed values, bit n for value n.
    pub(super) const fn bits(&self) -> u64 {
        self.bits
    }

    /// What was written, sorted.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether every value is allowed.
    pub(super) const fn is_all(&self) -> bool {
        self.bits == self.full
    }

    /// Whether a step stands in it that yields several values.
    pub(super) fn repeats(&self) -> bool {
        self.parts.iter().any(|part| part.repeats())
    }

    /// The only value, if there is just one.
    pub(super) const fn single(&self) -> Option<u32> {
        if self.bits.count_ones() == 1 { Some(self.bits.trailing_zeros()) } else { None }
    }

    /// Whether `value` is allowed.
    pub(super) const fn contains(&self, value: u32) -> bool {
        value < 64 && self.bits >> value & 1 == 1
    }

    /// The smallest allowed value.
    pub(super) const fn first(&self) -> u32 {
        self.bits.trailing_zeros()
    }

    /// The largest allowed value.
    pub(super) const fn last(&self) -> u32 {
        63 - self.bits.leading_zeros()
    }

    /// The smallest allowed value at or above `from`.
    pub(super) const fn first_from(&self, from: u32) -> Option<u32> {
        if from > 63 {
            return None;
        }
        let rest = self.bits & (u64::MAX << from);
        if rest == 0 { None } else { Some(rest.trailing_zeros()) }
    }

    /// The largest allowed value below `before`.
    pub(super) const fn last_before(&self, before: u32) -> Option<u32> {
        let rest = if before > 63 { self.bits } else { self.bits & !(u64::MAX << before) };
        if rest == 0 { None } else { Some(63 - rest.leading_zeros()) }
    }

    /// The allowed values as runs of neighbours.
    pub(super) fn runs(&self) -> Vec<(u32, u32)> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for value in values(self.bits) {
            match runs.last_mut() {
                Some((_, end)) if *end + 1 == value => *end = value,
                _ => runs.push((value, value)),
            }
        }
        runs
    }
}

/// The numbers of the bits that are set, upwards.
pub(super) fn values(bits: u64) -> impl Iterator<Item = u32> {
    (0..64).filter(move |value| bits >> value & 1 == 1)
}

fn bits_of(part: Part) -> u64 {
    (part.start..=part.end)
        .step_by(usize::from(part.stride()))
        .fold(0, |bits, value| bits | 1 << (value & 63))
}

/// The years that an expression allows; no part means all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Years(pub(super) Vec<Part>);

impl Years {
    /// First year that can be named: schedules do not look into the time before the epoch.
    pub(super) const MIN: u16 = 1970;
    /// Last year that the calendar knows.
    pub(super) const MAX: u16 = 9999;

    /// The first allowed year at or after `from`.
    pub(super) fn first_from(&self, from: i16) -> Option<i16> {
        if self.0.is_empty() {
            return (from <= Self::MAX as i16).then_some(from);
        }
        let from = u16::try_from(from).unwrap_or(0);
        self.0.iter().filter_map(|part| part.first_from(from)).min().and_then(|year| i16::try_from(year).ok())
    }

    /// The last allowed year at or before `upto`.
    pub(super) fn last_upto(&self, upto: i16) -> Option<i16> {
        let upto = u16::try_from(upto).ok().filter(|year| *year > 0)?;
        if self.0.is_empty() {
            return i16::try_from(upto).ok();
        }
        self.0.iter().filter_map(|part| part.last_upto(upto)).max().and_then(|year| i16::try_from(year).ok())
    }
}
