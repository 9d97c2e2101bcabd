//! Text that came from a master, made fit for a terminal (I8), and figures made fit for people.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// The longest text of a master's that is shown in one message, in characters.
const LONGEST: usize = 600;
/// So many of a list stand in one message.
const MOST_LISTED: usize = 10;

/// A master's text on one line: control characters and bidirectional overrides become `?`, the rest is cut at 600
/// characters.
#[must_use]
pub fn printable(text: &str) -> String {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown: String = one_line.chars().take(LONGEST).map(visible).collect();
    if one_line.chars().count() > LONGEST {
        shown.push('…');
    }
    shown
}

/// A path for a terminal, as printable as [`printable`] but with its spaces kept.
#[must_use]
pub fn printable_path(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().map(visible).collect()
}

/// The first ten of a list, and how many there are besides: a master can make any list of its own as long as it likes.
#[must_use]
pub fn first_ten<S: AsRef<str>>(items: &[S], separator: &str) -> String {
    let shown = items.iter().take(MOST_LISTED).map(AsRef::as_ref).collect::<Vec<_>>().join(separator);
    match items.len().saturating_sub(MOST_LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn visible(c: char) -> char {
    let overrides = matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if c.is_control() || overrides { '?' } else { c }
}

/// Bytes in binary units: `512 B`, `1.5 KiB`, `27.8 MiB`.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[allow(clippy::cast_precision_loss)] // shown with one decimal
    let mut amount = bytes as f64 / 1024.0;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

/// A rate in bytes a second, as rsync takes it: `512K`, `10M`, `1.5G` in powers of 1024; without a letter in bytes.
///
/// # Errors
/// With a sentence, when it is none, or less than 1 KiB a second.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let bad = || format!("'{}' is no rate in bytes a second: 512K, 10M, 1G (at least 1K)", printable(text));
    let (number, factor) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1_u64 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    let amount: f64 = number.parse().map_err(|_| bad())?;
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between 1 KiB and 1 PiB
    let rate = if (0.0..1e15).contains(&amount) { (amount * factor as f64) as u64 } else { 0 };
    if (1 << 10..1 << 50).contains(&rate) { Ok(rate) } else { Err(bad()) }
}

/// A duration as people say it: `0.4 s`, `12.3 s`, `3 m 05 s`, `2 h 07 m`.
#[must_use]
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// An age in its largest whole unit: `just now`, `5 m`, `3 h`, `12 d`.
#[must_use]
pub fn human_age(age: Duration) -> String {
    match age.as_secs() {
        0..60 => "just now".into(),
        s @ 60..3600 => format!("{} m", s / 60),
        s @ 3600..86400 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86400),
    }
}

/// Whether something was begun by a wrong clock: more than a day from now.
#[must_use]
pub fn is_ahead(then: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    then - now > TimeDelta::days(1)
}

/// How long ago something was, as [`human_age`] has it; `in the future` where a clock was wrong.
#[must_use]
pub fn age_since(then: DateTime<Utc>, now: DateTime<Utc>) -> String {
    if is_ahead(then, now) { "in the future".into() } else { human_age((now - then).to_std().unwrap_or_default()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i8_control_characters_of_a_master_never_reach_the_terminal() {
        let shown = printable("ok\u{1b}[2J\u{7}\u{202e}gone\r\nnext");
        assert_eq!(shown, "ok?[2J??gone next");
        assert!(printable(&"x".repeat(10_000)).chars().count() <= LONGEST + 1);
    }

    #[test]
    fn i8_a_list_of_a_masters_is_cut_in_a_message() {
        let names: Vec<String> = (1..=100_000).map(|n| n.to_string()).collect();
        assert_eq!(first_ten(&names[..3], ", "), "1, 2, 3");
        assert_eq!(first_ten(&names[..10], " "), "1 2 3 4 5 6 7 8 9 10");
        assert_eq!(first_ten(&names, " "), "1 2 3 4 5 6 7 8 9 10 and 99990 more");
        assert_eq!(first_ten::<String>(&[], " "), "");
    }

    #[test]
    fn sizes_and_times_read_as_people_say_them() {
        assert_eq!(human_bytes(512), "512 B");
        assert_eq!(human_bytes(1536), "1.5 KiB");
        assert_eq!(human_bytes(3 << 30), "3.0 GiB");
        assert_eq!((parse_rate("1.5M"), parse_rate("4096")), (Ok(3 << 19), Ok(4096)));
        for bad in ["", "M", "-1M", "1", "1T", "inf", "nan", "9e99G"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
        assert_eq!(human_duration(Duration::from_millis(410)), "0.4 s");
        assert_eq!(human_duration(Duration::from_secs(185)), "3 m 05 s");
        assert_eq!(human_age(Duration::from_secs(86400 * 3 + 5)), "3 d");
    }
}
