//! Small parts of a page: escaped text, data URIs, dates.
//!
//! **Invariant:** text that a user wrote reaches a page through [`escape`] or [`script_json`] only.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// Text for an element or a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // What HTML has no way to write.
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// JSON for a `script` element, which ends at the first `</script` whatever that stands in.
pub fn script_json(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// `data:` URI of a picture.
pub fn data_uri(mime: &str, bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = format!("data:{mime};base64,");
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            match place <= chunk.len() {
                true => out.push(DIGITS[(bits >> (18 - 6 * place)) as usize & 63] as char),
                false => out.push('='),
            }
        }
    }
    out
}

/// A pipeline's text with its comments marked.
pub fn pipeline_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        match comment_at(line) {
            Some(at) => {
                let (code, comment) = line.split_at(at);
                out += &format!("{}<i>{}</i>\n", escape(code), escape(comment));
            }
            None => out += &format!("{}\n", escape(line)),
        }
    }
    out
}

/// Where a line's comment starts: at the first `//` outside of a string.
fn comment_at(line: &str) -> Option<usize> {
    let mut in_string = false;
    let bytes = line.as_bytes();
    (0..bytes.len()).find(|&at| {
        in_string ^= bytes[at] == b'"';
        !in_string && bytes[at..].starts_with(b"//")
    })
}

/// `2026-01-31 09:30 UTC`.
pub fn date(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, minutes) = ((seconds / 86_400) as i64, seconds / 60 % 1440);
    // Days from 1 March of year 0, in eras of 400 years, so that the leap day comes last: Richards' calendar algorithm.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escape("<a href=\"x\">'&\u{1}"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;\u{fffd}");
        assert_eq!(script_json(&Value::from("</script>")), "\"\\u003c/script>\"");
        assert_eq!(pipeline_text("a = \"//\" // <b>"), "a = &quot;//&quot; <i>// &lt;b&gt;</i>\n");
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(data_uri("a/b", bytes.as_bytes()), format!("data:a/b;base64,{text}"));
        }
    }

    #[test]
    fn dates_know_leap_years() {
        let at = |seconds| date(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01 00:00 UTC");
        assert_eq!(at(951_826_500), "2000-02-29 12:15 UTC");
        assert_eq!(at(1_798_761_599), "2026-12-31 23:59 UTC");
    }
}
