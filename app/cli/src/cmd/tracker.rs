//! `torr tracker`: a small tracker for private use and tests.

use std::net::{IpAddr, SocketAddr};

use torr::tracker_server::{TrackerServer, TrackerServerConfig};

use crate::args::low::TrackerArgs;
use crate::confine::{Needs, confine, describe};
use crate::download::{Wish, Wishes, runtime};
use crate::env::Env;
use crate::failure::{Exit, Failure, plain_io};

/// Where most trackers listen.
const PORT: u16 = 6969;

pub(crate) fn run(env: &mut Env, args: &TrackerArgs) -> Result<Exit, Failure> {
    let config = match &args.listen {
        None => TrackerServerConfig::on_port(PORT),
        Some(text) => parse_listen(text)?,
    };
    let server = TrackerServer::bind(config).map_err(|error| {
        Failure::new(
            Exit::Network,
            error.addr.to_string(),
            plain_io(&error.source),
        )
        .hint("choose another address or port with --listen")
    })?;
    // It has what it needs.
    let taken = confine(env, !args.no_sandbox, Needs::default())?;
    if let Some(entered) = taken.entered.filter(|it| !it.left_open().is_empty())
        && !args.quiet
    {
        env.err.line(describe(&entered));
    }
    runtime()?.block_on(async {
        let mut wishes = Wishes::listen(env);
        if !args.quiet {
            tell(env, &server);
        }
        let stop = async { while !matches!(wishes.next().await, Wish::Stop(_)) {} };
        // It runs until it is stopped, so that is its regular end.
        let ran = server.run(stop).await;
        ran.map(|()| Exit::Done)
            .map_err(|error| Failure::new(Exit::Network, "tracker", plain_io(&error)))
    })
}

/// The URLs to put into torrents, one a line.
fn tell(env: &Env, server: &TrackerServer) {
    let mut hosts: Vec<String> = server
        .local_addrs()
        .map(|addr| match addr.ip().is_unspecified() {
            // Which of its names or addresses others know it by, this machine cannot tell.
            true => format!("HOST:{}", addr.port()),
            false => addr.to_string(),
        })
        .collect();
    hosts.dedup();
    for host in hosts {
        env.out.line(format_args!("http://{host}/announce"));
        env.out.line(format_args!("udp://{host}/announce"));
    }
}

/// `ADDR:PORT`, `ADDR`, `PORT` or `:PORT`.
fn parse_listen(text: &str) -> Result<TrackerServerConfig, Failure> {
    let plain = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = plain.parse() {
        return Ok(TrackerServerConfig::on_port(port));
    }
    let ip = || {
        let ip = text
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>();
        ip.map(|ip| SocketAddr::new(ip, PORT))
    };
    let addr = text.parse().or_else(|_| ip());
    let addr = addr.map_err(|_| {
        let why = format!("`{}` is not an address", text.escape_debug());
        Failure::usage("--listen", why)
            .hint("write it as 127.0.0.1:6969, [::1]:6969, or a port alone")
    })?;
    Ok(TrackerServerConfig {
        listen: vec![addr],
        ..TrackerServerConfig::on_port(PORT)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let first = |text| parse_listen(text).map(|config| config.listen.first().copied());
        let addr = |text: &str| Ok(text.parse().ok());
        assert_eq!(first("127.0.0.1:80"), addr("127.0.0.1:80"));
        assert_eq!(first("127.0.0.1"), addr("127.0.0.1:6969"));
        assert_eq!(first("::1"), addr("[::1]:6969"));
        assert_eq!(first("[::1]:0"), addr("[::1]:0"));
        assert!(first(":7000").is_ok_and(|addr| addr.is_some_and(|addr| addr.port() == 7000)));
        assert!(first("somewhere").is_err());
    }
}
