//! What trackers say, made fit to be shown.

/// Characters kept of any message, URL or error that a person may see.
pub const TEXT_CHARS_MAX: usize = 300;

/// [`torr_base::clean`] at [`TEXT_CHARS_MAX`].
#[must_use]
pub fn clean(bytes: &[u8]) -> String {
    torr_base::clean(bytes, TEXT_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_bounded() {
        let long = clean("ж".repeat(5000).as_bytes());
        assert_eq!(long.chars().count(), TEXT_CHARS_MAX);
        assert!(long.ends_with('…'));
    }
}
