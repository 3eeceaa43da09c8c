//! The URL of a file at a web seed (BEP 19).

use std::fmt::Write as _;

use torr_base::percent;
use torr_metainfo::{FileIndex, Info};

/// The longest URL that is asked for; servers take 8 KiB, mostly.
const URL_LEN_MAX: usize = 8 * 1024;

/// Whether it is a URL that torr asks: GetRight style web seeds may be FTP servers as well.
pub(super) fn is_web(url: &str) -> bool {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    let known = |it: &str| it.eq_ignore_ascii_case("http") || it.eq_ignore_ascii_case("https");
    scheme.is_some_and(known) && url.len() <= URL_LEN_MAX
}

/// BEP 19: the URL is the file itself, or, where it ends with a slash, a folder that has it. Of a torrent with
/// a folder it is always where that folder is.
pub(super) fn of_file(base: &str, info: &Info, file: FileIndex) -> Option<String> {
    let path = || info.raw_path(file);
    join(base, info.is_single_file(), &info.raw_name(), path)
}

/// `None` where a name cannot be part of a URL's path, or the URL would be too long.
fn join<'a, I: Iterator<Item = &'a [u8]>>(
    base: &str,
    single: bool,
    name: &[u8],
    path: impl FnOnce() -> I,
) -> Option<String> {
    let base = base.split_once('#').map_or(base, |(base, _)| base);
    let (folder, query) = match base.split_once('?') {
        Some((folder, query)) => (folder, Some(query)),
        None => (base, None),
    };
    if single && !folder.ends_with('/') {
        return Some(base.to_owned());
    }
    let mut url = folder.to_owned();
    if !url.ends_with('/') {
        url.push('/');
    }
    push(&mut url, name)?;
    if !single {
        for component in path() {
            url.push('/');
            push(&mut url, component)?;
        }
    }
    if let Some(query) = query {
        url.push('?');
        url.push_str(query);
    }
    (url.len() <= URL_LEN_MAX).then_some(url)
}

/// Adds a component, with all bytes escaped that RFC 3986 does not call unreserved: no name of a torrent ends
/// the path, begins a query, or leads out of the folder.
fn push(url: &mut String, component: &[u8]) -> Option<()> {
    if matches!(component, [] | b"." | b"..") || url.len() + component.len() > URL_LEN_MAX {
        return None;
    }
    write!(url, "{}", percent(component, "")).ok()?;
    Some(())
}

/// For the fuzzer: the URL of a file with that path.
#[must_use]
pub fn file_url(base: &str, single: bool, name: &[u8], path: &[&[u8]]) -> Option<String> {
    if !is_web(base) {
        return None;
    }
    join(base, single, name, || path.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many(base: &str, path: &[&str]) -> Option<String> {
        let path: Vec<&[u8]> = path.iter().map(|part| part.as_bytes()).collect();
        file_url(base, false, b"my name", &path)
    }

    #[test]
    fn a_single_file_is_the_url_or_in_it() {
        let one = |base| file_url(base, true, b"a b.iso", &[]);
        assert_eq!(one("http://h/x.iso").unwrap(), "http://h/x.iso");
        assert_eq!(
            one("http://h/x.iso?k=1#frag").unwrap(),
            "http://h/x.iso?k=1"
        );
        assert_eq!(one("https://h/dir/").unwrap(), "https://h/dir/a%20b.iso");
        assert_eq!(one("http://h/d/?k=1").unwrap(), "http://h/d/a%20b.iso?k=1");
        assert_eq!(one("ftp://h/x.iso"), None);
        assert_eq!(one("x.iso"), None);
    }

    #[test]
    fn many_files_are_below_the_torrents_name() {
        let url = many("http://h/dir", &["sub dir", "100%?#.txt"]).unwrap();
        assert_eq!(url, "http://h/dir/my%20name/sub%20dir/100%25%3F%23.txt");
        assert_eq!(
            many("http://h/dir/", &["ä"]).unwrap(),
            "http://h/dir/my%20name/%C3%A4"
        );
        assert_eq!(
            many("http://h", &["a/b"]).unwrap(),
            "http://h/my%20name/a%2Fb"
        );
        for bad in ["..", ".", ""] {
            assert_eq!(many("http://h/dir/", &["a", bad, "b"]), None, "{bad:?}");
        }
        let long = "x".repeat(URL_LEN_MAX);
        assert_eq!(many("http://h/dir/", &[&long]), None);
    }
}
