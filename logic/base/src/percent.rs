//! The percent-encoding of URLs (RFC 3986, section 2.1).

use std::fmt::{self, Write as _};

/// `bytes` as part of a URL: all but the unreserved characters, and those in `plain`, as `%` and two digits.
pub fn percent<'a>(bytes: &'a [u8], plain: &'a str) -> impl fmt::Display + 'a {
    fmt::from_fn(move |f| {
        for byte in bytes {
            let c = char::from(*byte);
            let stays = c.is_ascii_alphanumeric() || "-._~".contains(c) || plain.contains(c);
            match stays {
                true => f.write_char(c)?,
                false => write!(f, "%{byte:02X}")?,
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_the_unreserved_is_escaped() {
        let all: Vec<u8> = (0..=255).collect();
        let text = percent(&all, "").to_string();
        let plain: String = text
            .split('%')
            .map(|it| it.get(2..).unwrap_or(""))
            .collect();
        assert_eq!(
            plain,
            "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
        );
        assert_eq!(text.len(), plain.len() + 3 * (256 - plain.len()));
        assert_eq!(
            percent("a b:[é]/".as_bytes(), ":[]").to_string(),
            "a%20b:[%C3%A9]%2F"
        );
    }
}
