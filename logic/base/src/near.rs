//! What an address tells of how far away it is.

use std::net::IpAddr;

/// Whether that is this machine, or on a network that nobody outside can name: loopback, private and link-local
/// ranges. A mapped IPv4 address counts as what it is, IPv6.
#[must_use]
pub fn is_near(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}
