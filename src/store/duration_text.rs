//! How durations are written in the record: Go's text or Java's milliseconds.

use std::time::Duration;

/// Which text `leaseDuration` is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DurationText {
    /// As Go prints a `time.Duration`, like `10s`: what dynamolock reads and writes.
    Go,
    /// Milliseconds in digits, like `10000`: what Amazon's Java client reads and writes.
    JavaMillis,
}

impl DurationText {
    pub(crate) fn format(self, duration: Duration) -> String {
        match self {
            Self::Go => format_go(duration),
            Self::JavaMillis => duration.as_millis().to_string(),
        }
    }
}

const NANO: u128 = 1;
const MICRO: u128 = 1_000;
const MILLI: u128 = 1_000_000;
const SECOND: u128 = 1_000_000_000;
const MINUTE: u128 = 60 * SECOND;
const HOUR: u128 = 60 * MINUTE;
/// Go's durations are signed 64-bit nanoseconds.
const MAX: u128 = i64::MAX as u128;

/// Reads either text. `None` for anything that neither client would have written or accepted.
pub(crate) fn parse(text: &str) -> Option<(Duration, DurationText)> {
    // "0" is valid in both; any other plain number is Java's.
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let millis: u64 = text.parse().ok()?;
        return Some((Duration::from_millis(millis), DurationText::JavaMillis));
    }
    parse_go(text).map(|duration| (duration, DurationText::Go))
}

/// The grammar of Go's `time.ParseDuration` (package documentation of `time`), without negative values.
fn parse_go(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = 0_u128;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = after.strip_prefix('.').map_or(("", after), digits);
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let (unit, after) = unit(after)?;
        total = total.checked_add(scaled(whole, fraction, unit)?).filter(|total| *total <= MAX)?;
        rest = after;
    }
    u64::try_from(total).ok().map(Duration::from_nanos)
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn unit(text: &str) -> Option<(u128, &str)> {
    // Longer names first: "ms" must not be read as "m". Both micro signs are in use.
    const UNITS: [(&str, u128); 8] = [
        ("ns", NANO),
        ("us", MICRO),
        ("\u{b5}s", MICRO),
        ("\u{3bc}s", MICRO),
        ("ms", MILLI),
        ("s", SECOND),
        ("m", MINUTE),
        ("h", HOUR),
    ];
    UNITS.iter().find_map(|(name, nanos)| text.strip_prefix(name).map(|rest| (*nanos, rest)))
}

fn scaled(whole: &str, fraction: &str, unit: u128) -> Option<u128> {
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // More digits than this are less than a nanosecond of any unit.
    let fraction = &fraction[..fraction.len().min(18)];
    let digits: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let power = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    whole.checked_mul(unit)?.checked_add(digits * unit / power)
}

/// Exactly what Go's `Duration.String` prints.
fn format_go(duration: Duration) -> String {
    let nanos = duration.as_nanos().min(MAX);
    if nanos == 0 {
        return "0s".into();
    }
    if nanos < SECOND {
        let (unit, name) = match nanos {
            ..MICRO => (NANO, "ns"),
            MICRO..MILLI => (MICRO, "\u{b5}s"),
            _ => (MILLI, "ms"),
        };
        return format!("{}{name}", decimal(nanos, unit));
    }
    let (hours, minutes) = (nanos / HOUR, nanos % HOUR / MINUTE);
    let seconds = decimal(nanos % MINUTE, SECOND);
    if hours > 0 {
        format!("{hours}h{minutes}m{seconds}s")
    } else if minutes > 0 {
        format!("{minutes}m{seconds}s")
    } else {
        format!("{seconds}s")
    }
}

/// `nanos` in `unit`s, without trailing zeros.
fn decimal(nanos: u128, unit: u128) -> String {
    let (whole, rest) = (nanos / unit, nanos % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let fraction = format!("{rest:0width$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What Go writes, with its value in nanoseconds.
    const GOLDEN: [(&str, u64); 13] = [
        ("0s", 0),
        ("1ns", 1),
        ("1.5µs", 1_500),
        ("1.5ms", 1_500_000),
        ("500ms", 500_000_000),
        ("1.5s", 1_500_000_000),
        ("20s", 20_000_000_000),
        ("1m0s", 60_000_000_000),
        ("1m30s", 90_000_000_000),
        ("1m30.5s", 90_500_000_000),
        ("1h0m0s", 3_600_000_000_000),
        ("36h0m5s", 129_605_000_000_000),
        ("2562047h47m16.854775807s", 9_223_372_036_854_775_807),
    ];

    #[test]
    fn what_go_writes_is_read_and_written_alike() {
        for (text, nanos) in GOLDEN {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(format_go(duration), text);
            assert_eq!(parse(text), Some((duration, DurationText::Go)), "{text}");
        }
    }

    #[test]
    fn what_go_accepts_besides_is_accepted() {
        let millis = |millis| Some(Duration::from_millis(millis));
        for (text, expected) in [
            ("0", millis(0)),
            ("+20s", millis(20_000)),
            ("1m", millis(60_000)),
            (".5s", millis(500)),
            ("5.s", millis(5_000)),
            ("1us", Some(Duration::from_micros(1))),
            ("1μs", Some(Duration::from_micros(1))),
        ] {
            assert_eq!(parse(text).map(|(duration, _)| duration), expected, "{text}");
        }
        assert_eq!(parse("10000"), Some((Duration::from_secs(10), DurationText::JavaMillis)));
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in
            ["1d", "20 s", "20S", "3000000h", "", "-5s", "+", ".s", "s", "1.5", "١s", "1m-1s", "99999999999999999999"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_duration_survives_the_go_text(nanos in 0..=i64::MAX.unsigned_abs()) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_go(&format_go(duration)), Some(duration));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>()) {
            let _ = parse(&text);
        }

        #[test]
        fn no_text_of_the_right_letters_makes_the_parser_panic(text in "[0-9.+hmsnuµμ-]{0,24}") {
            let _ = parse(&text);
        }
    }
}
