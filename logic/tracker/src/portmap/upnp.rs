//! The text that goes to and fro with a UPnP Internet gateway: the search (SSDP), the description of the device, and
//! calls of its service (SOAP).
//!
//! All of it comes from whoever answers. What makes that safe: a place counts only if it is at the gateway's own
//! address ([`Place::parse`]), the name of a service is one of `SERVICES` and is never taken from a text, and what
//! goes into a call is numbers and our own words.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::Protocol;

/// Where everybody on the network is asked (UPnP Device Architecture 1.1, section 1.3.2).
pub const SEARCH_GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 250), 1900);
/// An answer that is longer is none.
pub const SEARCH_LEN_MAX: usize = 4 << 10;
/// A description, or an answer to a call, that is longer is none.
pub const BODY_LEN_MAX: usize = 64 << 10;
const PATH_LEN_MAX: usize = 512;
/// What devices are looked for.
const TARGET: &str = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";
/// What may have a port mapped, best first.
const SERVICES: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];

/// Only gateways that have no lease take one without an end.
pub const PERMANENT_ONLY: u16 = 725;
/// The port is mapped to another machine.
pub const CONFLICT: u16 = 718;

/// "Are there gateways?"
#[must_use]
pub fn search() -> String {
    format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: {SEARCH_GROUP}\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: {TARGET}\r\n\r\n"
    )
}

/// Somewhere at the gateway, to be asked by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub addr: SocketAddrV4,
    /// With its slash, and the query.
    pub path: String,
}

/// The service of a gateway that maps ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub place: Place,
    /// One of `SERVICES`.
    pub name: &'static str,
}

impl Place {
    /// An `http` URL whose host is, literally, that address.
    #[must_use]
    pub fn parse(url: &str, gateway: Ipv4Addr) -> Option<Self> {
        let scheme = url.get(..7)?;
        let rest = url.get(7..)?;
        if !scheme.eq_ignore_ascii_case("http://") {
            return None;
        }
        let end = rest.find('/').unwrap_or(rest.len());
        let (host, path) = rest.split_at(end);
        let (host, port) = match host.split_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (host, 80),
        };
        let ip: Ipv4Addr = host.parse().ok()?;
        let path = if path.is_empty() { "/" } else { path };
        (ip == gateway && port > 0 && is_path(path)).then(|| Self {
            addr: SocketAddrV4::new(ip, port),
            path: path.to_owned(),
        })
    }

    /// Where a reference of a document that came from here leads.
    fn join(&self, reference: &str) -> Option<Self> {
        if reference.contains("://") {
            return Self::parse(reference, *self.addr.ip());
        }
        let path = match reference.starts_with('/') {
            true => reference.to_owned(),
            false => {
                let own = self.path.split('?').next().unwrap_or_default();
                let folder = own.rfind('/').and_then(|end| own.get(..=end));
                format!("{}{reference}", folder.unwrap_or("/"))
            }
        };
        is_path(&path).then_some(Self {
            addr: self.addr,
            path,
        })
    }
}

/// Fit to stand in a request as it is.
fn is_path(path: &str) -> bool {
    let printable = path.bytes().all(|byte| byte.is_ascii_graphic());
    path.starts_with('/') && path.len() <= PATH_LEN_MAX && printable && !path.contains('#')
}

/// Where the description of a gateway is, out of an answer to [`search`]. `None` for what is no such answer, or leads
/// away from the gateway.
#[must_use]
pub fn read_search_answer(bytes: &[u8], gateway: Ipv4Addr) -> Option<Place> {
    if bytes.len() > SEARCH_LEN_MAX {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.split("\r\n");
    let mut status = lines.next()?.split_ascii_whitespace();
    if !status.next()?.starts_with("HTTP/1.") || status.next()? != "200" {
        return None;
    }
    let (mut location, mut is_gateway) = (None, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        match name.trim().to_ascii_lowercase().as_str() {
            "location" => location = Place::parse(value.trim(), gateway),
            "st" => is_gateway = value.contains(":InternetGatewayDevice:"),
            _ => {}
        }
    }
    location.filter(|_| is_gateway)
}

/// The best service in a description that came from `from`.
#[must_use]
pub fn read_description(text: &str, from: &Place) -> Option<Service> {
    if text.len() > BODY_LEN_MAX {
        return None;
    }
    let base = element(text, "URLBase").and_then(|base| Place::parse(base, *from.addr.ip()));
    let base = base.unwrap_or_else(|| from.clone());
    let services = elements(text, "service").filter_map(|service| {
        let named = element(service, "serviceType")?;
        let rank = SERVICES.iter().position(|name| *name == named)?;
        let control = element(service, "controlURL")?.replace("&amp;", "&");
        Some((rank, base.join(&control)?))
    });
    let (rank, place) = services.min_by_key(|(rank, _)| *rank)?;
    let name = SERVICES.get(rank)?;
    Some(Service { place, name })
}

/// One call of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// For the header of that name.
    pub soap_action: String,
    pub body: String,
}

/// Maps `external` to `internal` at `client`. `lease`: seconds; 0 has no end.
#[must_use]
pub fn add(
    service: &Service,
    protocol: Protocol,
    external: u16,
    (client, internal): (Ipv4Addr, u16),
    lease: u32,
) -> Call {
    let arguments = format!(
        "<NewRemoteHost></NewRemoteHost><NewExternalPort>{external}</NewExternalPort>\
         <NewProtocol>{}</NewProtocol><NewInternalPort>{internal}</NewInternalPort>\
         <NewInternalClient>{client}</NewInternalClient><NewEnabled>1</NewEnabled>\
         <NewPortMappingDescription>torr</NewPortMappingDescription>\
         <NewLeaseDuration>{lease}</NewLeaseDuration>",
        protocol.name(),
    );
    call(service, "AddPortMapping", &arguments)
}

/// Takes a mapping back.
#[must_use]
pub fn delete(service: &Service, protocol: Protocol, external: u16) -> Call {
    let arguments = format!(
        "<NewRemoteHost></NewRemoteHost><NewExternalPort>{external}</NewExternalPort>\
         <NewProtocol>{}</NewProtocol>",
        protocol.name(),
    );
    call(service, "DeletePortMapping", &arguments)
}

/// "What is your address outside?"
#[must_use]
pub fn ask_address(service: &Service) -> Call {
    call(service, "GetExternalIPAddress", "")
}

fn call(service: &Service, action: &str, arguments: &str) -> Call {
    let name = service.name;
    Call {
        soap_action: format!("\"{name}#{action}\""),
        body: format!(
            "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
             <u:{action} xmlns:u=\"{name}\">{arguments}</u:{action}></s:Body></s:Envelope>\r\n"
        ),
    }
}

/// The address in an answer to [`ask_address`].
#[must_use]
pub fn read_address(text: &str) -> Option<Ipv4Addr> {
    element(text, "NewExternalIPAddress")?.parse().ok()
}

/// The number in a fault.
#[must_use]
pub fn read_fault(text: &str) -> Option<u16> {
    element(text, "errorCode")?.parse().ok()
}

/// The text of the first element of that name, without space around it.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    elements(text, name).next().map(str::trim)
}

/// What is in elements of that name, which do not nest.
fn elements<'a>(text: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}"), format!("</{name}>"));
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let (_, after) = rest.split_once(open.as_str())?;
            rest = after;
            let longer = !after.starts_with(['>', ' ', '\t', '\r', '\n']);
            if longer {
                continue;
            }
            let (_, inside) = after.split_once('>')?;
            let (inside, after) = inside.split_once(close.as_str())?;
            rest = after;
            return Some(inside);
        }
    })
}
