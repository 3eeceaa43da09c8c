//! Anything may happen in any order; what every tracker hears must make sense all the same.

use proptest::prelude::*;

use super::*;
use crate::udp::{UdpReply, UdpRequest};
use torr_base::Rng;

#[derive(Clone, Debug)]
enum Op {
    Pass(u64),
    Start,
    Stop,
    Complete,
    Reannounce,
    NetworkChanged,
    /// Answers the oldest open question with this kind of answer.
    Answer(u8),
    /// A datagram out of nowhere.
    Noise(Vec<u8>),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => prop_oneof![Just(0), 1..10_u64, 10..4000_u64].prop_map(Op::Pass),
        2 => Just(Op::Start),
        1 => Just(Op::Stop),
        1 => Just(Op::Complete),
        1 => Just(Op::Reannounce),
        1 => Just(Op::NetworkChanged),
        8 => (0..12_u8).prop_map(Op::Answer),
        1 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Op::Noise),
    ]
}

/// What one tracker (one address of it) has heard and accepted in this session.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    started: bool,
    completed: bool,
    last_regular: Option<Instant>,
}

enum Question {
    Http(RequestId, String),
    Resolve(RequestId),
    Datagram(SocketAddr, UdpRequest),
}

struct Model {
    announcer: Announcer,
    now: Instant,
    questions: Vec<Question>,
    heard: BTreeMap<String, Heard>,
    left: u64,
    running: bool,
}

impl Model {
    fn tick(&mut self) {
        let stats = Stats {
            left: self.left,
            ..Stats::default()
        };
        let mut spins = 0;
        while self
            .announcer
            .next_timeout()
            .is_some_and(|at| at <= self.now)
        {
            spins += 1;
            assert!(
                spins < 50,
                "it asks again and again for the present moment: {:#?} {:?}",
                self.announcer,
                self.now
            );
            let mut out = Vec::new();
            self.announcer.handle_timeout(self.now, &stats, &mut out);
            self.take(out);
        }
        if self.announcer.is_stopped() {
            self.questions.clear();
        }
    }

    fn take(&mut self, out: Vec<TrackerAction>) {
        for action in out {
            match action {
                TrackerAction::HttpGet { request, url } => {
                    let event = argument(&url, "event");
                    self.hears(host(&url), &event);
                    self.questions.push(Question::Http(request, url));
                }
                TrackerAction::Resolve { request, .. } => {
                    self.questions.push(Question::Resolve(request));
                }
                TrackerAction::Datagram { to, bytes } => {
                    let request = UdpRequest::decode(&bytes).unwrap();
                    if let UdpRequest::Announce { announce, .. } = &request {
                        self.hears(to.to_string(), announce.event.word().unwrap_or(""));
                    }
                    self.questions.push(Question::Datagram(to, request));
                }
                TrackerAction::Cancel { request } => self.questions.retain(|it| match it {
                    Question::Http(id, _) | Question::Resolve(id) => *id != request,
                    Question::Datagram(..) => true,
                }),
                _ => {}
            }
        }
        assert!(self.questions.len() < 500);
    }

    fn hears(&mut self, who: String, event: &str) {
        let heard = self.heard.entry(who).or_default();
        match event {
            "started" => assert!(!heard.started, "twice started"),
            "completed" => {
                assert!(heard.started && !heard.completed);
                assert_eq!(self.left, 0);
            }
            "stopped" => assert!(heard.started, "stopped without started"),
            _ => {
                assert!(heard.started, "regular without started");
                let since = heard.last_regular.map(|at| self.now.since(at));
                assert!(
                    since.is_none_or(|since| since >= secs(60)),
                    "too soon: {since:?}"
                );
            }
        }
    }

    fn accepted(&mut self, who: String, event: &str) {
        let now = self.now;
        let heard = self.heard.entry(who).or_default();
        heard.last_regular = Some(now);
        match event {
            "started" => heard.started = true,
            "completed" => heard.completed = true,
            "stopped" => *heard = Heard::default(),
            _ => {}
        }
    }

    fn answer(&mut self, kind: u8) {
        if self.questions.is_empty() {
            return;
        }
        let mut out = Vec::new();
        match self
            .questions
            .remove(usize::from(kind) % self.questions.len())
        {
            Question::Http(request, url) => {
                let reply = match kind {
                    0 => Err("reset".to_owned()),
                    1 => Ok(HttpReply::new(500, "")),
                    2 => Ok(HttpReply::new(200, "d14:failure reason2:noe")),
                    3 => Ok(HttpReply::new(
                        200,
                        "d14:failure reason2:no8:retry in5:nevere",
                    )),
                    _ => Ok(HttpReply::new(200, GOOD)),
                };
                let good = kind > 3;
                let event = argument(&url, "event");
                self.announcer
                    .handle_http(self.now, request, reply, &mut out);
                if good || event == "stopped" {
                    self.accepted(host(&url), &event);
                }
            }
            Question::Resolve(request) => {
                let addrs = match kind {
                    0 => Err("no such name".to_owned()),
                    1 => Ok(Vec::new()),
                    2 => Ok(vec!["192.0.2.2:80".parse().unwrap()]),
                    _ => Ok(["192.0.2.1:80", "[2001:db8::1]:80"]
                        .map(|text| text.parse().unwrap())
                        .to_vec()),
                };
                self.announcer
                    .handle_resolved(self.now, request, addrs, &mut out);
            }
            Question::Datagram(to, request) => {
                let transaction = request.transaction();
                let (reply, event) = match (kind, request) {
                    (0, _) => (None, None),
                    (1, _) => {
                        let message = "no".to_owned();
                        (
                            Some(UdpReply::Error {
                                transaction,
                                message,
                            }),
                            None,
                        )
                    }
                    (_, UdpRequest::Connect { .. }) => (
                        Some(UdpReply::Connect {
                            transaction,
                            connection: 5,
                        }),
                        None,
                    ),
                    (_, UdpRequest::Announce { announce, .. }) => {
                        let reply = crate::announce::AnnounceReply {
                            interval_secs: Some(1),
                            ..Default::default()
                        };
                        (
                            Some(UdpReply::Announce { transaction, reply }),
                            Some(announce.event),
                        )
                    }
                    (_, UdpRequest::Scrape { .. }) => unreachable!("nobody scrapes"),
                };
                if let Some(reply) = reply {
                    let bytes = reply.encode();
                    let known = self
                        .announcer
                        .handle_datagram(self.now, to, &bytes, &mut out);
                    if let Some(event) = event.filter(|_| known) {
                        self.accepted(to.to_string(), event.word().unwrap_or(""));
                    }
                }
            }
        }
        self.take(out);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_tracker_hears_a_story_that_makes_sense(
        seed in any::<u64>(),
        ops in proptest::collection::vec(op(), 1..120),
    ) {
        let tiers = [
            vec!["http://a/announce".to_owned(), "udp://b.example:80".to_owned()],
            vec!["udp://198.51.100.1:80/x".to_owned()],
            vec!["http://c/announce".to_owned(), "wss://no".to_owned(), "http://d/announce".to_owned()],
        ];
        let config = announcer(&[]).config;
        let mut model = Model {
            announcer: Announcer::new(config, &tiers, Rng::new(seed)),
            now: Instant::ZERO + secs(1),
            questions: Vec::new(),
            heard: BTreeMap::new(),
            left: 5,
            running: false,
        };
        for op in ops {
            match op {
                Op::Pass(span) => model.now = model.now + secs(span),
                Op::Start if !model.running => {
                    model.running = true;
                    model.heard.clear();
                    model.left = 5;
                    model.announcer.start(model.now);
                }
                Op::Start => model.announcer.start(model.now),
                Op::Stop => {
                    model.running = false;
                    model.announcer.stop(model.now);
                }
                Op::Complete => {
                    model.left = 0;
                    model.announcer.completed(model.now);
                }
                Op::Reannounce => model.announcer.reannounce(model.now),
                Op::NetworkChanged => model.announcer.network_changed(model.now),
                Op::Answer(kind) => model.answer(kind),
                Op::Noise(bytes) => {
                    let from = "192.0.2.1:80".parse().unwrap();
                    let mut out = Vec::new();
                    model.announcer.handle_datagram(model.now, from, &bytes, &mut out);
                    model.take(out);
                }
            }
            model.tick();
            let _ = model.announcer.trackers().count();
        }
        // Whatever state it is in, it stops within five seconds.
        model.announcer.stop(model.now);
        model.tick();
        model.now = model.now + secs(5);
        model.tick();
        prop_assert!(model.announcer.is_stopped());
        prop_assert_eq!(model.announcer.next_timeout(), None);
        prop_assert!(model.announcer.trackers().all(|it| it.next_announce.is_none()));
    }
}
