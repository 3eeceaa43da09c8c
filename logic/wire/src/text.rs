//! Words of strangers, made fit to be shown.

/// Readable text of at most `chars_max` characters: what is no UTF-8 becomes U+FFFD, control, bidirectional
/// and invisible format characters are dropped, spaces at the ends too.
pub(crate) fn clean(bytes: &[u8], chars_max: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let shown = text.chars().filter(|c| !c.is_control() && !is_format(*c));
    let text: String = shown.take(chars_max).collect();
    text.trim().to_owned()
}

/// Characters that reorder or hide what stands around them (Unicode's `Cf` and line separators).
fn is_format(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_seen_remains() {
        assert_eq!(clean(b" torr\x1b[31m\0 1.0\r\n", 20), "torr[31m 1.0");
        assert_eq!(clean("a\u{202e}b\u{200b}c\u{9b}".as_bytes(), 20), "abc");
        assert_eq!(clean("\u{b5}Torrent".as_bytes(), 20), "\u{b5}Torrent");
        assert_eq!(clean(b"ab\xffcd", 20), "ab\u{fffd}cd");
        assert_eq!(clean(&[b'x'; 1000], 5), "xxxxx");
        let wide = "\u{1f600}".repeat(9);
        assert_eq!(clean(wide.as_bytes(), 3), "\u{1f600}".repeat(3));
    }
}
