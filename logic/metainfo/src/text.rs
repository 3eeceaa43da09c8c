//! Characters that have no place in a name.

use std::borrow::Cow;

/// What stands in for anything that was taken out of a name.
pub(crate) const STAND_IN: char = '_';

/// Whether a character would act on the screen instead of being seen there: C0 and C1 controls, line
/// separators, marks that turn the direction of writing, and characters of no width.
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
}
