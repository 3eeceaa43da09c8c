//! Sizes, rates and times as people write and read them.
//!
//! `K M G T` count in thousands, `KiB MiB GiB TiB` in 1024s, as disks and networks are sold and as most
//! tools around us do. What is shown has one decimal; what is exact has none lost.

use std::time::Duration;

const DECIMAL: [(&str, u64); 5] = [
    ("", 1),
    ("k", 1_000),
    ("m", 1_000_000),
    ("g", 1_000_000_000),
    ("t", 1_000_000_000_000),
];
const BINARY: [(&str, u64); 4] = [
    ("ki", 1 << 10),
    ("mi", 1 << 20),
    ("gi", 1 << 30),
    ("ti", 1 << 40),
];
const SHOWN: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
const TIME: [(char, u64); 5] = [
    ('w', 604_800),
    ('d', 86_400),
    ('h', 3600),
    ('m', 60),
    ('s', 1),
];

/// `700M`, `1.5GiB`, `16384`, either case, a final `B` allowed.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is not a size; write it as 700M or 1.5GiB");
    let (number, unit) = split_number(text.trim());
    let unit = unit.trim_start().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let units = DECIMAL.iter().chain(&BINARY);
    let (_, factor) = units
        .into_iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(bad)?;
    scale(number, *factor).ok_or_else(bad)
}

/// A size per second; `0` and `none` are no limit.
pub(crate) fn parse_rate(text: &str) -> Result<Option<u64>, String> {
    let plain = text.trim();
    if plain.eq_ignore_ascii_case("none") {
        return Ok(None);
    }
    let size = plain.strip_suffix("/s").unwrap_or(plain);
    let rate = parse_size(size);
    let rate = rate.map_err(|_| format!("`{text}` is not a rate; write it as 10M, or none"))?;
    Ok((rate > 0).then_some(rate))
}

/// `90`, `90s`, `30m`, `1h30m`, `7d`, `2w`.
pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is not a time; write it as 30m, 2h or 7d");
    let mut rest = text.trim();
    let mut secs = 0_u64;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let (number, after) = split_number(rest);
        let mut chars = after.chars();
        let factor = match chars.next() {
            Some(unit) => {
                TIME.iter()
                    .find(|(name, _)| *name == unit)
                    .ok_or_else(bad)?
                    .1
            }
            None => 1,
        };
        rest = chars.as_str();
        let part = scale(number, factor).ok_or_else(bad)?;
        secs = secs.checked_add(part).ok_or_else(bad)?;
    }
    Ok(Duration::from_secs(secs))
}

/// A number without a sign, above 0 or 0.
pub(crate) fn parse_ratio(text: &str) -> Result<f64, String> {
    let number = text.trim().parse().ok();
    let fits = |ratio: &f64| ratio.is_finite() && *ratio >= 0.0;
    number
        .filter(fits)
        .ok_or_else(|| format!("`{text}` is not a ratio; write it as 1.5"))
}

fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    text.split_at(end.unwrap_or(text.len()))
}

/// `number` × `factor` in whole numbers, so that nothing is lost to floating point.
fn scale(number: &str, factor: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && part.is_empty()) || part.len() > 18 {
        return None;
    }
    let mut value = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    if !part.is_empty() {
        let tens = 10_u128.pow(part.len() as u32);
        let fraction = u128::from(part.parse::<u64>().ok()?) * u128::from(factor) / tens;
        value = value.checked_add(u64::try_from(fraction).ok()?)?;
    }
    Some(value)
}

/// `5.9 GB`
pub(crate) fn size(bytes: u64) -> String {
    let unit = unit_of(bytes);
    format!("{} {}", in_unit(bytes, unit), name(unit))
}

/// `2.4/5.9 GB`: both in the unit of the second.
pub(crate) fn size_of(part: u64, whole: u64) -> String {
    let unit = unit_of(whole);
    format!(
        "{}/{} {}",
        in_unit(part, unit),
        in_unit(whole, unit),
        name(unit)
    )
}

/// In the unit of `like` if there is anything to be seen of it, so that the two compare: `0.2 GB`.
pub(crate) fn size_like(bytes: u64, like: u64) -> String {
    match unit_of(like) {
        unit if unit > 0 && tenths(bytes, unit) > 0 => {
            format!("{} {}", in_unit(bytes, unit), name(unit))
        }
        _ => size(bytes),
    }
}

/// `86.1 MB/s`
pub(crate) fn rate(bytes_per_second: u64) -> String {
    format!("{}/s", size(bytes_per_second))
}

fn name(unit: usize) -> &'static str {
    SHOWN.get(unit).copied().unwrap_or("PB")
}

/// The unit in which the number is below 1000 even when rounded.
fn unit_of(bytes: u64) -> usize {
    let fits = |unit: &usize| match unit {
        0 => bytes < 1000,
        unit => tenths(bytes, *unit) < 10_000,
    };
    (0..SHOWN.len() - 1).find(fits).unwrap_or(SHOWN.len() - 1)
}

fn tenths(bytes: u64, unit: usize) -> u64 {
    let factor = 1000_u64.pow(unit as u32);
    // Rounded to the nearest; a u64 has at most 18.4 EB, so nothing overflows.
    (bytes / factor) * 10 + (bytes % factor * 10 + factor / 2) / factor
}

fn in_unit(bytes: u64, unit: usize) -> String {
    match unit {
        0 => bytes.to_string(),
        unit => {
            let tenths = tenths(bytes, unit);
            format!("{}.{}", tenths / 10, tenths % 10)
        }
    }
}

/// `5,900,000`
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `4 MiB` where nothing is lost by it, else bytes.
pub(crate) fn binary(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} B")
}

/// `0:40`, `1:09:05`, `3d 4h`; a clock as far as a clock is of use.
pub(crate) fn clock(secs: u64) -> String {
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}:{:02}", secs % 60),
        (0, _) => format!("{hours}:{minutes:02}:{:02}", secs % 60),
        (1..=99, _) => format!("{days}d {hours}h"),
        _ => "∞".to_owned(),
    }
}

/// A time as it can be written again: `1h30m`, `0s`.
pub(crate) fn time(duration: Duration) -> String {
    let mut secs = duration.as_secs();
    if secs == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (unit, factor) in TIME.into_iter().skip(1) {
        if secs >= factor {
            out.push_str(&format!("{}{unit}", secs / factor));
            secs %= factor;
        }
    }
    out
}

/// `3 files`, `1 file`
pub(crate) fn count(number: u64, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {noun}{s}", grouped(number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read() {
        let cases = [
            ("0", 0),
            ("100", 100),
            ("100b", 100),
            ("10K", 10_000),
            ("10kB", 10_000),
            ("1.5G", 1_500_000_000),
            ("1.5GiB", 3 << 29),
            ("64 MiB", 64 << 20),
            ("2t", 2_000_000_000_000),
            ("0.001k", 1),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "M",
            "-1",
            "1.",
            ".5",
            "1X",
            "1e3",
            "1.2.3",
            "99999999T",
            "1 2",
            "1KiBiB",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_and_times_are_read() {
        assert_eq!(parse_rate("10M"), Ok(Some(10_000_000)));
        assert_eq!(parse_rate("1.5MiB/s"), Ok(Some(3 << 19)));
        assert_eq!(parse_rate("0"), Ok(None));
        assert_eq!(parse_rate("None"), Ok(None));
        assert!(parse_rate("fast").is_err());
        let secs = |text| parse_time(text).map(|t| t.as_secs());
        assert_eq!(secs("90"), Ok(90));
        assert_eq!(secs("30m"), Ok(1800));
        assert_eq!(secs("1h30m"), Ok(5400));
        assert_eq!(secs("7d"), Ok(604_800));
        assert_eq!(secs("1.5h"), Ok(5400));
        for text in ["", "h", "1y", "-3s", "1h x"] {
            assert!(secs(text).is_err(), "{text}");
        }
        assert_eq!(parse_ratio("1.5"), Ok(1.5));
        assert!(parse_ratio("-1").is_err() && parse_ratio("inf").is_err());
    }

    #[test]
    fn sizes_are_shown() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (5_900_000_000, "5.9 GB"),
            (u64::MAX, "18446.7 PB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size_of(2_400_000_000, 5_900_000_000), "2.4/5.9 GB");
        assert_eq!(size_of(12, 5_000), "0.0/5.0 kB");
        assert_eq!(rate(86_100_000), "86.1 MB/s");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(123), "123");
        assert_eq!(binary(4 << 20), "4 MiB");
        assert_eq!(binary(1000), "1000 B");
    }

    #[test]
    fn times_are_shown() {
        assert_eq!(clock(0), "0:00");
        assert_eq!(clock(40), "0:40");
        assert_eq!(clock(69), "1:09");
        assert_eq!(clock(3723), "1:02:03");
        assert_eq!(clock(90_000), "1d 1h");
        assert_eq!(clock(u64::MAX), "∞");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_as_nearly_the_same(number: u64, shift in 15..64) {
            let bytes = number >> shift;
            let shown = size(bytes);
            let read = parse_size(&shown).unwrap();
            prop_assert!(read.abs_diff(bytes) <= bytes / 20 , "{bytes}: {shown}");
        }

        #[test]
        fn whole_numbers_of_units_are_exact(number in 0_u64..16_000_000) {
            prop_assert_eq!(parse_size(&number.to_string()), Ok(number));
            prop_assert_eq!(parse_size(&format!("{number}M")), Ok(number * 1_000_000));
            prop_assert_eq!(parse_size(&binary(number << 10)), Ok(number << 10));
        }

        #[test]
        fn times_come_back(secs in any::<u64>()) {
            let duration = Duration::from_secs(secs);
            prop_assert_eq!(parse_time(&time(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in ".{0,20}") {
            let _ = (parse_size(&text), parse_rate(&text), parse_time(&text), parse_ratio(&text));
        }
    }
}
