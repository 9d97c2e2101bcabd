//! Time spans as people write them.

use chrono::Duration;

use super::text::printable;

/// A time span: `36h`, `14d`, `8w`, `6m` (months of 30 days), `2y`.
///
/// # Errors
/// With a sentence, when it is none.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let bad = || format!("'{}' is no time span: 36h, 14d, 8w, 6m or 2y", printable(text));
    let (at, unit) = text.char_indices().last().ok_or_else(bad)?;
    let count: u32 = text[..at].parse().map_err(|_| bad())?;
    let hours = match unit {
        'h' => 1,
        'd' => 24,
        'w' => 7 * 24,
        'm' => 30 * 24,
        'y' => 365 * 24,
        _ => return Err(bad()),
    };
    if count == 0 || count > 100_000 {
        return Err(bad());
    }
    Ok(Duration::hours(i64::from(count) * hours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_others_refused() {
        assert_eq!(parse_span("36h").unwrap(), Duration::hours(36));
        assert_eq!(parse_span("8w").unwrap(), Duration::weeks(8));
        for bad in ["", "d", "0d", "-1d", "1.5d", "7", "7 d", "999999999y", "7é"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }
}
