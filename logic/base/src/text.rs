//! Text that strangers wrote, made fit for a path, a terminal, a log and a web page.

use std::borrow::Cow;

/// Whether a character would act on the screen instead of being seen there: C0 and C1 controls, line
/// separators, marks that turn the direction of writing, and characters of no width.
#[inline]
#[must_use]
pub fn is_disruptive(c: char) -> bool {
    // Nearly all names are of these, and a torrent may have a hundred million characters.
    if matches!(c, ' '..='~') {
        return false;
    }
    c.is_control()
        || matches!(c,
            // Soft hyphen, grapheme joiner, Arabic letter mark, Mongolian vowel separator.
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}'
            // Hangul fillers: blank letters.
            | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}'
            // Khmer vowels that are not written.
            | '\u{17b4}' | '\u{17b5}'
            // Zero-width space and joiners, direction marks.
            | '\u{200b}'..='\u{200f}'
            // Line and paragraph separators, embeddings and overrides of direction.
            | '\u{2028}'..='\u{202e}'
            // Word joiner, invisible operators, isolates, deprecated format characters.
            | '\u{2060}'..='\u{206f}'
            // Byte order mark, interlinear annotation.
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            // Musical and shorthand format characters, tags.
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

/// The text with `_` for every character that [`is_disruptive`]: for comments and other foreign text on
/// a screen.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_disruptive) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(is_disruptive, "_"))
}

/// `bytes` as one line of at most `chars_max` characters, the last of them `…` where there were more: what is
/// no UTF-8 becomes U+FFFD, runs of white space one space, and what [`is_disruptive`] or leaves no mark of its
/// own is dropped.
#[must_use]
pub fn clean(bytes: &[u8], chars_max: usize) -> String {
    // A character is at most four bytes; there may be as many again that are dropped, and the rest is not looked at.
    let head = bytes.get(..chars_max.saturating_mul(8)).unwrap_or(bytes);
    let mut out = String::new();
    let mut kept = 0;
    let mut space = false;
    for c in String::from_utf8_lossy(head).chars() {
        if c.is_whitespace() {
            space = kept > 0;
            continue;
        }
        if is_disruptive(c) || is_variation(c) {
            continue;
        }
        if kept + usize::from(space) >= chars_max {
            if kept == chars_max {
                out.pop();
            }
            out.push('…');
            break;
        }
        if space {
            out.push(' ');
            kept += 1;
            space = false;
        }
        out.push(c);
        kept += 1;
    }
    out
}

/// Variation selectors, and what Unicode keeps for more characters that leave no mark of their own. Emoji and
/// Japanese names are written with them, so a name keeps them; a line of a tracker or a peer could hide any
/// number of bytes in them.
fn is_variation(c: char) -> bool {
    matches!(c, '\u{180b}'..='\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{fff0}'..='\u{fff8}'
        | '\u{e0080}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_of_any_script_stays() {
        for text in ["a b.c", "naïve", "日本語", "עברית", "العربية", "🦀", ""] {
            assert!(matches!(printable(text), Cow::Borrowed(t) if t == text));
        }
        assert_eq!(printable("a\x1b[2J\u{202e}gpj.exe\u{85}"), "a_[2J_gpj.exe_");
    }

    #[test]
    fn one_line_remains_of_what_can_be_seen() {
        let line = |text: &str| clean(text.as_bytes(), 20);
        assert_eq!(line(" torr\x1b[31m\0 1.0\r\n"), "torr[31m 1.0");
        assert_eq!(
            line("a\u{1b}[31mb\n\t c\u{202e}d\u{9b}\u{200b}"),
            "a[31mb cd"
        );
        assert_eq!(line("\u{b5}Torrent"), "\u{b5}Torrent");
        assert_eq!(line("  \u{200b} "), "");
        assert_eq!(line("a\u{fe0f}\u{180b}\u{fff0}\u{e0100}b"), "ab");
        assert_eq!(clean(b"ab\xff\xfecd", 20), "ab\u{fffd}\u{fffd}cd");
        assert_eq!(clean(&[b'x'; 1000], 5), "xxxx…");
        let wide = "\u{1f600}".repeat(9);
        assert_eq!(clean(wide.as_bytes(), 3), "\u{1f600}\u{1f600}…");
        assert_eq!(clean(b"ab cd", 3), "ab…");
        assert_eq!(clean(wide.as_bytes(), 9), wide);
    }

    proptest::proptest! {
        #[test]
        fn never_a_disruptive_character_and_never_too_long(bytes: Vec<u8>, chars_max in 1..40_usize) {
            let text = clean(&bytes, chars_max);
            proptest::prop_assert!(!text.contains(|c| is_disruptive(c) || is_variation(c)));
            proptest::prop_assert!(text.chars().count() <= chars_max);
        }
    }
}
