//! Text that strangers wrote, made fit for a terminal, a log and a web page.

/// Characters kept of any message, URL or error that a person may see.
pub const TEXT_CHARS_MAX: usize = 300;

/// `bytes` as text of at most [`TEXT_CHARS_MAX`] characters: broken UTF-8 replaced, runs of white space
/// made one space, control, bidirectional and invisible format characters dropped.
#[must_use]
pub fn clean(bytes: &[u8]) -> String {
    // A character is at most four bytes; the rest could not be shown anyhow.
    let head = bytes.get(..TEXT_CHARS_MAX * 8).unwrap_or(bytes);
    let mut out = String::new();
    let mut kept = 0;
    let mut space = false;
    for c in String::from_utf8_lossy(head).chars() {
        if c.is_whitespace() {
            space = kept > 0;
            continue;
        }
        if c.is_control() || is_invisible(c) {
            continue;
        }
        if kept + usize::from(space) >= TEXT_CHARS_MAX {
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

/// Characters that reorder or hide what stands beside them (Unicode general category Cf and its kin).
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_and_bidi_go_and_length_is_bounded() {
        assert_eq!(
            clean("a\u{1b}[31mb\n\t c\u{202e}d\u{0}".as_bytes()),
            "a[31mb cd"
        );
        assert_eq!(clean(b"\xff\xfeok"), "\u{fffd}\u{fffd}ok");
        assert_eq!(clean("  \u{200b} ".as_bytes()), "");
        let long = clean("ж".repeat(5000).as_bytes());
        assert_eq!(long.chars().count(), TEXT_CHARS_MAX + 1);
        assert!(long.ends_with('…'));
    }

    proptest::proptest! {
        #[test]
        fn never_a_control_character(bytes: Vec<u8>) {
            let text = clean(&bytes);
            proptest::prop_assert!(!text.chars().any(|c| c.is_control() || is_invisible(c)));
            proptest::prop_assert!(text.chars().count() <= TEXT_CHARS_MAX + 1);
        }
    }
}
