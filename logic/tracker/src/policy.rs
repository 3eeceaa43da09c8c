//! Where a tracker, a web seed or a redirect may lead: the guard against being used to reach into the
//! user's machine or network (server-side request forgery).
//!
//! Pure functions over an address that was *already looked up*: a transport asks for each hop, with the
//! very address it is going to connect to. Names prove nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How far away an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// No single host, or one that nobody has business with: wildcards, groups, the reserved block,
    /// and 169.254/16, where cloud machines keep their credentials.
    Closed,
    /// This machine.
    Loopback,
    /// fe80::/10.
    LinkLocal,
    /// 10/8, 172.16/12, 192.168/16, 100.64/10 (shared), fc00::/7 and fec0::/10.
    Private,
    Global,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Tracker,
    WebSeed,
    /// A .torrent that the user names: wherever that is, but for redirects.
    Torrent,
}

/// One connection that is about to be made.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    pub purpose: Purpose,
    /// Path of the URL; for UDP trackers too.
    pub path: &'a str,
    /// Query of the URL without its `?`.
    pub query: Option<&'a str>,
    /// Where the redirect came from; `None` for a URL that the torrent or the user named.
    pub redirected_by: Option<IpAddr>,
    /// `--allow-private`: redirects and web seeds may lead into private networks.
    pub allow_private: bool,
}

/// Why a connection is not made. For people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("this address is never connected to")]
    Closed,
    #[error("a redirect may not lead from elsewhere to this machine")]
    RedirectToLoopback,
    #[error("a redirect may not lead into a private network (see --allow-private)")]
    RedirectToPrivate,
    #[error("a web seed in a private network is not used (see --allow-private)")]
    PrivateWebSeed,
    #[error("a web seed on this machine or in a private network may have no query in its URL")]
    WebSeedQuery,
    #[error("a tracker on this machine must be at /announce or /scrape")]
    LoopbackPath,
    #[error("a tracker on this machine may have no other arguments than an announce's own")]
    LoopbackQuery,
}

#[must_use]
pub fn scope(ip: IpAddr) -> Scope {
    match ip.to_canonical() {
        IpAddr::V4(ip) => scope_v4(ip),
        IpAddr::V6(ip) => scope_v6(ip),
    }
}

fn scope_v4(ip: Ipv4Addr) -> Scope {
    match ip.octets() {
        [0, ..] | [169, 254, ..] | [224..=255, ..] => Scope::Closed,
        [127, ..] => Scope::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Scope::Private,
        _ => Scope::Global,
    }
}

fn scope_v6(ip: Ipv6Addr) -> Scope {
    let s = ip.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        scope_v4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        [0, 0, 0, 0, 0, 0, 0, 1] => Scope::Loopback,
        // Old v4-compatible addresses, the wildcard among them, and groups.
        [0, 0, 0, 0, 0, 0, ..] | [0xff00..=0xffff, ..] => Scope::Closed,
        // Roads to an IPv4 host: NAT64 (RFC 6052) and 6to4 (RFC 3056) lead where that host is.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        // NAT64 with a prefix of the network's own (RFC 8215).
        [0x64, 0xff9b, 1, ..] => Scope::Private,
        [0xfe80..=0xfebf, ..] => Scope::LinkLocal,
        // The EC2 metadata service's IPv6 address is inside fd00::/8; it is closed like its IPv4 twin.
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] => Scope::Closed,
        [0xfec0..=0xfeff, ..] | [0xfc00..=0xfdff, ..] => Scope::Private,
        _ => Scope::Global,
    }
}

/// Whether a connection to `ip` may be made for `hop`.
///
/// # Errors
/// Which rule forbids it.
pub fn allowed_address(ip: IpAddr, hop: &Hop<'_>) -> Result<(), Refused> {
    let scope = scope(ip);
    redirect_allowed(ip, scope, hop)?;
    match (scope, hop.purpose) {
        (Scope::Closed, _) => Err(Refused::Closed),
        (Scope::Global, _)
        | (Scope::Private | Scope::LinkLocal, Purpose::Tracker)
        | (Scope::Private | Scope::LinkLocal | Scope::Loopback, Purpose::Torrent) => Ok(()),
        (Scope::Loopback, Purpose::Tracker) => loopback_tracker_allowed(hop),
        // A GET without a query presses no button on this machine.
        (Scope::Private | Scope::LinkLocal | Scope::Loopback, Purpose::WebSeed) => {
            if scope != Scope::Loopback && !hop.allow_private {
                Err(Refused::PrivateWebSeed)
            } else if hop.query.is_some() {
                Err(Refused::WebSeedQuery)
            } else {
                Ok(())
            }
        }
    }
}

fn redirect_allowed(ip: IpAddr, to: Scope, hop: &Hop<'_>) -> Result<(), Refused> {
    let Some(from) = hop.redirected_by else {
        return Ok(());
    };
    // Whoever answers at an address may send us about on that same address.
    if from.to_canonical() == ip.to_canonical() {
        return Ok(());
    }
    match (to, scope(from)) {
        (Scope::Closed, _) => Err(Refused::Closed),
        (Scope::Global, _) | (Scope::Loopback, Scope::Loopback) => Ok(()),
        (Scope::Loopback, Scope::Global | Scope::Private | Scope::LinkLocal | Scope::Closed) => {
            Err(Refused::RedirectToLoopback)
        }
        (Scope::Private | Scope::LinkLocal, _) if hop.allow_private => Ok(()),
        (Scope::Private | Scope::LinkLocal, _) => Err(Refused::RedirectToPrivate),
    }
}

/// Only what can be nothing but a tracker: else a torrent could press buttons in some program's local
/// web page.
fn loopback_tracker_allowed(hop: &Hop<'_>) -> Result<(), Refused> {
    if !is_tracker_path(hop.path) {
        return Err(Refused::LoopbackPath);
    }
    if !hop.query.is_none_or(is_own_query) {
        return Err(Refused::LoopbackQuery);
    }
    Ok(())
}

/// `/announce`, `/scrape`, or one of them with one component before it.
#[must_use]
pub fn is_tracker_path(path: &str) -> bool {
    let Some(path) = path.strip_prefix('/') else {
        return false;
    };
    let (passkey, verb) = path.split_once('/').unwrap_or(("k", path));
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    matches!(verb, "announce" | "scrape") && !passkey.is_empty() && passkey.bytes().all(plain)
}

/// Whether all arguments are ones that an announce or scrape of ours has, each at most once: a second
/// one would have been there before ours were appended.
fn is_own_query(query: &str) -> bool {
    const OWN: [&str; 15] = [
        "info_hash",
        "peer_id",
        "port",
        "uploaded",
        "downloaded",
        "left",
        "corrupt",
        "numwant",
        "compact",
        "no_peer_id",
        "key",
        "event",
        "ipv4",
        "ipv6",
        "trackerid",
    ];
    let mut seen = [false; OWN.len()];
    query.split('&').all(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        let known = OWN.iter().zip(&mut seen).find(|(own, _)| **own == name);
        // A scrape names several torrents.
        known.is_some_and(|(own, seen)| !std::mem::replace(seen, true) || *own == "info_hash")
    })
}

/// Whether a peer at `addr` may come from a tracker of this scope: one elsewhere has no business to
/// name addresses of this machine.
#[must_use]
pub fn allowed_peer(addr: SocketAddr, tracker_on_loopback: bool) -> bool {
    match scope(addr.ip()) {
        Scope::Closed => false,
        Scope::Loopback => tracker_on_loopback,
        Scope::LinkLocal | Scope::Private | Scope::Global => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn tracker(url_tail: &str) -> Hop<'_> {
        let (path, query) = match url_tail.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (url_tail, None),
        };
        Hop {
            purpose: Purpose::Tracker,
            path,
            query,
            redirected_by: None,
            allow_private: false,
        }
    }

    #[test]
    fn scopes() {
        for (text, expected) in [
            ("8.8.8.8", Scope::Global),
            ("198.18.0.1", Scope::Global),
            ("127.1.2.3", Scope::Loopback),
            ("::1", Scope::Loopback),
            ("::ffff:127.0.0.1", Scope::Loopback),
            ("64:ff9b::7f00:1", Scope::Loopback),
            ("2002:7f00:1::", Scope::Loopback),
            ("10.0.0.1", Scope::Private),
            ("172.31.255.255", Scope::Private),
            ("172.32.0.0", Scope::Global),
            ("192.168.1.1", Scope::Private),
            ("100.64.0.1", Scope::Private),
            ("fd12::1", Scope::Private),
            ("fe80::1", Scope::LinkLocal),
            ("169.254.169.254", Scope::Closed),
            ("::ffff:169.254.169.254", Scope::Closed),
            ("64:ff9b::169.254.169.254", Scope::Closed),
            ("fd00:ec2::254", Scope::Closed),
            ("0.0.0.0", Scope::Closed),
            ("0.1.2.3", Scope::Closed),
            ("::", Scope::Closed),
            ("::127.0.0.1", Scope::Closed),
            ("224.0.0.1", Scope::Closed),
            ("255.255.255.255", Scope::Closed),
            ("ff02::1", Scope::Closed),
            ("2001:db8::1", Scope::Global),
        ] {
            assert_eq!(scope(ip(text)), expected, "{text}");
        }
    }

    #[test]
    fn loopback_trackers() {
        let own = "info_hash=%01&peer_id=x&port=1&uploaded=0&downloaded=0&left=0&compact=1&key=1";
        for path in ["/announce", "/scrape", "/KEY123/announce", "/a-b_c/scrape"] {
            assert_eq!(
                allowed_address(ip("127.0.0.1"), &tracker(path)),
                Ok(()),
                "{path}"
            );
            let with_own = format!("{path}?{own}");
            assert_eq!(
                allowed_address(ip("::1"), &tracker(&with_own)),
                Ok(()),
                "{path}"
            );
        }
        let two = tracker("/scrape?info_hash=a&info_hash=b");
        assert_eq!(allowed_address(ip("127.0.0.1"), &two), Ok(()));
        for path in [
            "",
            "/",
            "/admin",
            "/announce/",
            "/announce/x",
            "/a/b/announce",
            "//announce",
            "/announce.php",
            "/../announce",
            "/%2e%2e/announce",
            "/a;b/announce",
            "announce",
        ] {
            let refused = allowed_address(ip("127.0.0.1"), &tracker(path));
            assert_eq!(refused, Err(Refused::LoopbackPath), "{path}");
        }
        for query in [
            format!("cmd=x&{own}"),
            format!("port=22&{own}"),
            format!("{own}&"),
            "x".to_owned(),
        ] {
            let path = format!("/announce?{query}");
            let refused = allowed_address(ip("::1"), &tracker(&path));
            assert_eq!(refused, Err(Refused::LoopbackQuery), "{query}");
        }
    }

    #[test]
    fn a_torrent_is_fetched_from_wherever_the_user_says() {
        let hop = Hop {
            purpose: Purpose::Torrent,
            ..tracker("/files/a.torrent?key=1")
        };
        for addr in ["127.0.0.1", "::1", "10.1.2.3", "fe80::1", "8.8.8.8"] {
            assert_eq!(allowed_address(ip(addr), &hop), Ok(()), "{addr}");
        }
        let closed = allowed_address(ip("169.254.169.254"), &hop);
        assert_eq!(closed, Err(Refused::Closed));
        let led = Hop {
            redirected_by: Some(ip("8.8.8.8")),
            ..hop
        };
        let refused = allowed_address(ip("127.0.0.1"), &led);
        assert_eq!(refused, Err(Refused::RedirectToLoopback));
        let refused = allowed_address(ip("10.0.0.1"), &led);
        assert_eq!(refused, Err(Refused::RedirectToPrivate));
    }

    #[test]
    fn directly_named_private_trackers_are_open_and_169_254_never() {
        let hop = tracker("/any/path?x=y");
        for open in [
            "10.1.1.1",
            "192.168.0.1",
            "100.64.1.1",
            "fe80::1",
            "fd00::1",
            "8.8.8.8",
        ] {
            assert_eq!(allowed_address(ip(open), &hop), Ok(()), "{open}");
        }
        for purpose in [Purpose::Tracker, Purpose::WebSeed] {
            let hop = Hop {
                purpose,
                allow_private: true,
                ..tracker("/announce")
            };
            assert_eq!(
                allowed_address(ip("169.254.169.254"), &hop),
                Err(Refused::Closed)
            );
        }
    }

    #[test]
    fn redirects() {
        let table = [
            ("8.8.8.8", "9.9.9.9", Ok(()), Ok(())),
            (
                "8.8.8.8",
                "127.0.0.1",
                Err(Refused::RedirectToLoopback),
                Err(Refused::RedirectToLoopback),
            ),
            (
                "192.168.0.1",
                "127.0.0.1",
                Err(Refused::RedirectToLoopback),
                Err(Refused::RedirectToLoopback),
            ),
            (
                "8.8.8.8",
                "192.168.0.1",
                Err(Refused::RedirectToPrivate),
                Ok(()),
            ),
            (
                "192.168.0.2",
                "192.168.0.1",
                Err(Refused::RedirectToPrivate),
                Ok(()),
            ),
            ("192.168.0.1", "192.168.0.1", Ok(()), Ok(())),
            ("127.0.0.1", "::1", Ok(()), Ok(())),
            ("127.0.0.1", "8.8.8.8", Ok(()), Ok(())),
            (
                "8.8.8.8",
                "169.254.1.1",
                Err(Refused::Closed),
                Err(Refused::Closed),
            ),
        ];
        for (from, to, closed, open) in table {
            for (allow_private, expected) in [(false, closed), (true, open)] {
                let hop = Hop {
                    redirected_by: Some(ip(from)),
                    allow_private,
                    ..tracker("/announce")
                };
                assert_eq!(allowed_address(ip(to), &hop), expected, "{from} to {to}");
            }
        }
    }

    #[test]
    fn web_seeds() {
        let hop = Hop {
            purpose: Purpose::WebSeed,
            ..tracker("/file?x=1")
        };
        assert_eq!(allowed_address(ip("8.8.8.8"), &hop), Ok(()));
        assert_eq!(
            allowed_address(ip("10.0.0.1"), &hop),
            Err(Refused::PrivateWebSeed)
        );
        for local in ["127.0.0.1", "::1"] {
            let refused = allowed_address(ip(local), &hop);
            assert_eq!(refused, Err(Refused::WebSeedQuery), "{local}");
            let plain = Hop { query: None, ..hop };
            assert_eq!(allowed_address(ip(local), &plain), Ok(()), "{local}");
            let led = Hop {
                redirected_by: Some(ip("8.8.8.8")),
                allow_private: true,
                ..plain
            };
            let refused = allowed_address(ip(local), &led);
            assert_eq!(refused, Err(Refused::RedirectToLoopback), "{local}");
        }
        let plain = Hop { query: None, ..hop };
        for private in ["10.0.0.1", "fe80::1", "100.64.0.1"] {
            let refused = allowed_address(ip(private), &plain);
            assert_eq!(refused, Err(Refused::PrivateWebSeed), "{private}");
        }
        let hop = Hop {
            allow_private: true,
            ..hop
        };
        assert_eq!(
            allowed_address(ip("10.0.0.1"), &hop),
            Err(Refused::WebSeedQuery)
        );
        let hop = Hop { query: None, ..hop };
        assert_eq!(allowed_address(ip("10.0.0.1"), &hop), Ok(()));
    }

    #[test]
    fn peers_on_this_machine_only_from_a_tracker_on_it() {
        let peer = |text: &str| text.parse().unwrap();
        assert!(allowed_peer(peer("127.0.0.1:80"), true));
        assert!(!allowed_peer(peer("127.0.0.1:80"), false));
        assert!(!allowed_peer(peer("[::1]:80"), false));
        assert!(!allowed_peer(peer("169.254.169.254:80"), true));
        assert!(allowed_peer(peer("10.0.0.1:80"), false));
    }
}
