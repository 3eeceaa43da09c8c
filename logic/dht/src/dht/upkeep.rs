//! What a node does by itself: finding its place, and keeping its table true.

use std::net::SocketAddr;
use std::time::Duration;

use torr_base::Instant;

use super::Dht;
use crate::addr::Family;
use crate::id::NodeId;
use crate::lookup::Purpose;
use crate::message::Method;
use crate::queries::What;
use crate::table::K;
use crate::types::{Bootstrap, DhtAction, HOSTS_MAX, ResolveId, WELL_KNOWN};

/// How often a node sees to its table: one question each time.
const TICK: Duration = Duration::from_secs(5);
/// The same while there are places to fill and somebody is known for them.
const TICK_FILLING: Duration = Duration::from_millis(250);
/// How often the nodes around our own id are looked for; they are the ones that must know us.
const AROUND_EVERY: Duration = Duration::from_secs(15 * 60);
/// The same while the table has less than a bucket.
const AROUND_EVERY_FEW: Duration = Duration::from_secs(2 * 60);
/// First wait after such a lookup found nobody; each time twice as long …
const RETRY: Duration = Duration::from_secs(5);
/// … up to this.
const RETRY_MAX: Duration = Duration::from_secs(10 * 60);

impl Dht {
    /// Lets a family do what is due.
    pub(super) fn keep_up(&mut self, now: Instant, family: Family, out: &mut Vec<DhtAction>) {
        if !self.side(family).active {
            return;
        }
        if self.side(family).around.is_none() && self.side(family).around_due <= now {
            self.look_around(now, family, out);
        }
        if self.side(family).tick <= now {
            let filling = self.tick(now, family, out);
            let wait = if filling { TICK_FILLING } else { TICK };
            let jitter = self.rng.below(wait.as_nanos() as u64 / 4);
            self.side(family).tick = now + wait + Duration::from_nanos(jitter);
        }
    }

    /// Looks for the nodes around our own id, and for somebody to begin with where nobody is known.
    fn look_around(&mut self, now: Instant, family: Family, out: &mut Vec<DhtAction>) {
        let side = &self.sides[family.index()];
        let target = side.id;
        let empty = side.table.len() == 0;
        let lost =
            empty && (side.around_fails > 0 || (side.saved.is_empty() && side.starts.is_empty()));
        if lost {
            self.resolve_hosts(now, out);
        }
        let key = self.begin_lookup(family, target, Purpose::Neighbours);
        let side = self.side(family);
        side.around = key;
        // Whatever sets it earlier than this wants another lookup.
        side.around_due = now + AROUND_EVERY;
        if key.is_none() {
            self.around_over(now, family);
        }
    }

    /// Such a lookup is over, or had nobody to begin with.
    pub(super) fn around_over(&mut self, now: Instant, family: Family) {
        let side = &mut self.sides[family.index()];
        side.around = None;
        let wait = match side.table.len() {
            0 => {
                side.around_fails += 1;
                back_off(side.around_fails - 1)
            }
            few if few < K => AROUND_EVERY_FEW,
            _ => AROUND_EVERY,
        };
        if side.table.len() > 0 {
            side.around_fails = 0;
            self.names_tries = 0;
        }
        let jitter = self.rng.below(wait.as_nanos() as u64 / 8);
        if side.around_due > now {
            side.around_due = now + wait + Duration::from_nanos(jitter);
        }
    }

    fn resolve_hosts(&mut self, now: Instant, out: &mut Vec<DhtAction>) {
        if self.resolving.iter().any(|(_, start)| *start) || now < self.names_due {
            return;
        }
        self.names_due = now + back_off(self.names_tries);
        self.names_tries += 1;
        let hosts: Vec<(String, u16)> = match &self.config.bootstrap {
            Bootstrap::WellKnown => {
                let hosts = WELL_KNOWN.iter();
                hosts
                    .map(|(host, port)| ((*host).to_owned(), *port))
                    .collect()
            }
            Bootstrap::Hosts(hosts) => hosts.iter().take(HOSTS_MAX).cloned().collect(),
        };
        for (host, port) in hosts {
            self.resolve(host, port, true, out);
        }
    }

    fn resolve(&mut self, host: String, port: u16, start: bool, out: &mut Vec<DhtAction>) {
        let request = ResolveId(self.next_resolve);
        self.next_resolve += 1;
        self.resolving.push((request, start));
        out.push(DhtAction::Resolve {
            request,
            host,
            port,
        });
    }

    /// Looks names up that torrents gave.
    pub(super) fn resolve_named(&mut self, out: &mut Vec<DhtAction>) {
        while self.resolving.len() < HOSTS_MAX
            && let Some((host, port)) = self.named.pop_front()
        {
            self.resolve(host, port, false, out);
        }
    }

    /// Asks one node, whoever is most in need of it; true if there is more to do soon.
    fn tick(&mut self, now: Instant, family: Family, out: &mut Vec<DhtAction>) -> bool {
        let random = self.secrets.draw();
        let side = &mut self.sides[family.index()];
        side.store.purge(now);
        if let Some(addr) = side.probes.pop_front() {
            let find = Method::FindNode { target: side.id };
            self.probe(now, addr, None, find, out);
            return true;
        }
        if let Some(node) = side.table.stale(now) {
            // The answer shows that it is there, and whom it knows near an id in its own bucket.
            let target = side.id.sharing(side.id.shared_bits(node.id), random);
            let find = Method::FindNode { target };
            self.ask(now, node.addr, Some(node.id), find, What::Probe, out);
            return false;
        }
        if let Some(node) = side.table.next_rumour() {
            self.probe(now, node.addr, Some(node.id), Method::Ping, out);
            return true;
        }
        if let Some(target) = side.table.refresh(now, random) {
            let known = side.table.closest(target, K);
            if let Some(node) = known.get(self.rng.index(known.len())).copied() {
                let find = Method::FindNode { target };
                self.ask(now, node.addr, Some(node.id), find, What::Probe, out);
            }
            return true;
        }
        if let Some(node) = side.saved.pop() {
            self.probe(now, node.addr, Some(node.id), Method::Ping, out);
            return true;
        }
        false
    }

    /// Asks one of whom we only heard, unless there is silence around it.
    fn probe(
        &mut self,
        now: Instant,
        addr: SocketAddr,
        id: Option<NodeId>,
        method: Method<'_>,
        out: &mut Vec<DhtAction>,
    ) {
        if !self.silence.is_around(now, addr) {
            self.ask(now, addr, id, method, What::Probe, out);
        }
    }
}

fn back_off(tries: u32) -> Duration {
    (RETRY * (1 << tries.min(8))).min(RETRY_MAX)
}
