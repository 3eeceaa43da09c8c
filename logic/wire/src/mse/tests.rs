//! Both ends against each other, and each against a puppet that says what it should not.

use std::collections::VecDeque;

use proptest::prelude::*;
use torr_base::InfoHash;

use super::dh::{KEY_LEN, PrivateKey};
use super::hash::{keys, mask_token, sync_mark};
use super::*;

const TORRENT: InfoHash = InfoHash([0x5a; 20]);
const PLAIN: Methods = Methods::only(Method::Plaintext);

fn source(seed: u8) -> SecretSource {
    SecretSource::new([seed; 32])
}

fn find(token: &TorrentToken) -> Option<InfoHash> {
    // Among others, as in a session with many torrents.
    let all = [InfoHash([1; 20]), TORRENT, InfoHash([2; 20])];
    all.into_iter().find(|one| torrent_token(one) == *token)
}

fn dials(methods: Methods, payload: &[u8], seed: u8) -> MseHandshake {
    let side = MseSide::Dials {
        info_hash: TORRENT,
        payload: payload.to_vec(),
    };
    MseHandshake::new(side, methods, &mut source(seed))
}

fn accepts(methods: Methods) -> MseHandshake {
    MseHandshake::new(MseSide::Accepts, methods, &mut source(200))
}

/// Gives the machine what it asks for from the pipe, at most `step` bytes at a time.
fn feed(end: &mut MseHandshake, pipe: &mut VecDeque<u8>, step: usize) -> Result<(), MseError> {
    loop {
        let room = end.read_buf();
        let n = room.len().min(step).min(pipe.len());
        if n == 0 {
            return Ok(());
        }
        for (to, from) in room.iter_mut().zip(pipe.drain(..n)) {
            *to = from;
        }
        end.advance(n, find)?;
    }
}

/// One end with what it sends, and what it says and hears once it is through.
struct End {
    mse: MseHandshake,
    out: VecDeque<u8>,
    streams: Option<Streams>,
    to_say: Vec<u8>,
    heard: Vec<u8>,
}

impl End {
    fn new(mse: MseHandshake, to_say: &[u8]) -> Self {
        Self {
            mse,
            out: VecDeque::new(),
            streams: None,
            to_say: to_say.to_vec(),
            heard: Vec::new(),
        }
    }

    fn turn(&mut self, pipe: &mut VecDeque<u8>, step: usize) {
        feed(&mut self.mse, pipe, step).unwrap();
        let mut out = Vec::new();
        self.mse.take_output(&mut out);
        self.out.extend(out);
        if let Some(mut streams) = self.mse.finish() {
            assert!(self.mse.read_buf().is_empty());
            if let Some(rc4) = &mut streams.outgoing {
                rc4.apply(&mut self.to_say);
            }
            self.out.extend(&self.to_say);
            self.streams = Some(streams);
        }
        if let Some(streams) = &mut self.streams {
            let n = pipe.len().min(step);
            let mut bytes: Vec<u8> = pipe.drain(..n).collect();
            if let Some(decryptor) = &mut streams.incoming {
                decryptor.apply(&mut bytes);
            }
            self.heard.extend(bytes);
        }
    }
}

proptest! {
    /// However the bytes are cut, both ends come to the same method, and all payload arrives: the first
    /// one, which came with the handshake, and what follows it without a gap.
    #[test]
    fn ends_agree_in_every_split(
        offered in prop::sample::select(vec![Methods::ANY, Methods::RC4, PLAIN]),
        allowed in prop::sample::select(vec![Methods::ANY, Methods::RC4]),
        first in prop::collection::vec(any::<u8>(), 0..300),
        rest in prop::collection::vec(any::<u8>(), 0..300),
        answer in prop::collection::vec(any::<u8>(), 0..300),
        steps in prop::collection::vec(1_usize..200, 1..20),
        seed in 0_u8..100,
    ) {
        let due = allowed.choose(offered);
        prop_assume!(due.is_some());
        let mut a = End::new(dials(offered, &first, seed), &rest);
        let mut b = End::new(accepts(allowed), &answer);
        for step in steps.iter().cycle().take(3_000) {
            a.turn(&mut b.out, *step);
            b.turn(&mut a.out, *step);
        }
        let (Some(left), Some(right)) = (&a.streams, &b.streams) else {
            return Err(TestCaseError::fail("not through"));
        };
        prop_assert_eq!((Some(left.method), Some(right.method)), (due, due));
        prop_assert_eq!(b.mse.info_hash(), Some(TORRENT));
        prop_assert_eq!(b.heard, [first, rest].concat());
        prop_assert_eq!(a.heard, answer);
    }

    /// Whatever comes, neither end takes more than the longest handshake there may be.
    #[test]
    fn noise_is_given_up(noise in prop::collection::vec(any::<u8>(), 2_000), step in 1_usize..500) {
        for mut end in [dials(Methods::ANY, b"x", 3), accepts(Methods::ANY)] {
            let mut pipe = VecDeque::from(noise.clone());
            prop_assert_eq!(feed(&mut end, &mut pipe, step), Err(MseError::NoSync));
            prop_assert!(pipe.len() >= 2_000 - KEY_LEN - 512 - 20 - 36);
            prop_assert!(end.read_buf().is_empty() && end.finish().is_none());
        }
    }
}

#[test]
fn the_cheapest_method_of_both_is_chosen() {
    let chosen = |a: Methods, b| a.choose(b);
    assert_eq!(chosen(Methods::ANY, Methods::ANY), Some(Method::Plaintext));
    assert_eq!(chosen(Methods::ANY, Methods::RC4), Some(Method::Rc4));
    assert_eq!(chosen(PLAIN, Methods::RC4), None);
    assert_eq!(
        chosen(Methods::from_bytes([0xff; 4]), PLAIN),
        Some(Method::Plaintext)
    );
}

/// The other side of a machine, made by hand.
struct Puppet {
    private: PrivateKey,
    shared: [u8; KEY_LEN],
    incoming: Rc4,
    outgoing: Rc4,
}

impl Puppet {
    /// Has heard the machine's key.
    fn new(theirs: &[u8], dials: bool) -> Self {
        let private = PrivateKey::new([0x33; 20]);
        let shared = private
            .shared(theirs[..KEY_LEN].try_into().unwrap())
            .unwrap();
        let [a, b] = keys(&shared, &TORRENT).map(|key| Rc4::new(&key));
        let (outgoing, incoming) = if dials { (a, b) } else { (b, a) };
        Self {
            private,
            shared,
            incoming,
            outgoing,
        }
    }

    fn encrypt(&mut self, parts: &[&[u8]]) -> Vec<u8> {
        let mut bytes = parts.concat();
        self.outgoing.apply(&mut bytes);
        bytes
    }
}

/// What the puppet says to a machine that accepts.
struct Offer<'a> {
    padding: usize,
    torrent: InfoHash,
    constant: [u8; 8],
    methods: u32,
    /// Announced; as much follows.
    second: u16,
    payload: &'a [u8],
}

const GOOD: Offer<'_> = Offer {
    padding: 100,
    torrent: TORRENT,
    constant: [0; 8],
    methods: 3,
    second: 0,
    payload: b"",
};

fn offer(offer: &Offer<'_>) -> Result<(MseHandshake, Puppet), MseError> {
    let mut end = accepts(Methods::ANY);
    assert!(end.read_buf().len() == KEY_LEN);
    let key = PrivateKey::new([0x33; 20]).public();
    feed(&mut end, &mut VecDeque::from(key.to_vec()), 1_000)?;
    let mut said = Vec::new();
    end.take_output(&mut said);
    let mut puppet = Puppet::new(&said, true);
    let mut bytes = vec![0xee; offer.padding];
    bytes.extend(sync_mark(&puppet.shared));
    bytes.extend(mask_token(&torrent_token(&offer.torrent), &puppet.shared));
    let padding = vec![0; usize::from(offer.second)];
    bytes.extend(puppet.encrypt(&[
        &offer.constant,
        &offer.methods.to_be_bytes(),
        &offer.second.to_be_bytes(),
        &padding,
        &(offer.payload.len() as u16).to_be_bytes(),
        offer.payload,
    ]));
    feed(&mut end, &mut VecDeque::from(bytes), 7)?;
    Ok((end, puppet))
}

#[test]
fn who_accepts_refuses_what_is_wrong() {
    use MseError::*;
    let refused = |bad: Offer<'_>| offer(&bad).map(|_| ()).unwrap_err();
    assert!(offer(&GOOD).is_ok());
    let torrent = InfoHash([0x77; 20]);
    assert_eq!(
        refused(Offer {
            padding: 513,
            ..GOOD
        }),
        NoSync
    );
    assert_eq!(refused(Offer { torrent, ..GOOD }), UnknownTorrent);
    assert_eq!(
        refused(Offer {
            constant: [0, 0, 0, 0, 0, 0, 0, 1],
            ..GOOD
        }),
        WrongConstant
    );
    assert_eq!(refused(Offer { methods: 0, ..GOOD }), NoCommonMethod);
    assert_eq!(
        refused(Offer {
            methods: 0xffff_fffc,
            ..GOOD
        }),
        NoCommonMethod
    );
    assert_eq!(
        refused(Offer {
            second: 513,
            ..GOOD
        }),
        PaddingTooLong(513)
    );
    assert_eq!(
        refused(Offer {
            second: u16::MAX,
            ..GOOD
        }),
        PaddingTooLong(u16::MAX)
    );
}

#[test]
fn who_accepts_takes_the_longest_paddings_and_methods_of_the_future() {
    let most = Offer {
        padding: 512,
        second: 512,
        methods: 0x8000_0002,
        payload: b"abc",
        ..GOOD
    };
    let (mut end, _) = offer(&most).unwrap();
    let streams = end.finish().unwrap();
    assert_eq!(streams.method, Method::Rc4);
    assert!(end.finish().is_none(), "once");
}

/// The accepting side's choice as the puppet reads it.
#[test]
fn the_choice_is_said_as_the_protocol_has_it() {
    for (methods, chosen) in [(3, 1), (1, 1), (2, 2)] {
        let (mut end, mut puppet) = offer(&Offer { methods, ..GOOD }).unwrap();
        let mut said = Vec::new();
        end.take_output(&mut said);
        puppet.incoming.apply(&mut said);
        assert_eq!(said[..8], [0; 8]);
        assert_eq!(said[8..12], [0, 0, 0, chosen]);
        let padding = u16::from_be_bytes(said[12..14].try_into().unwrap());
        assert_eq!(said.len(), 14 + usize::from(padding));
    }
}

/// With plaintext chosen, the first payload is encrypted and what follows it is not.
#[test]
fn first_payload_is_encrypted_whatever_was_chosen() {
    let (mut end, _) = offer(&Offer {
        methods: 1,
        payload: b"hello",
        ..GOOD
    })
    .unwrap();
    let mut streams = end.finish().unwrap();
    let decryptor = streams.incoming.as_mut().unwrap();
    let mut bytes = [0; 5];
    decryptor.apply(&mut bytes[..2]);
    assert!(!decryptor.is_done());
    decryptor.apply(&mut bytes[2..]);
    assert!(decryptor.is_done());
    let mut after = *b"as it is";
    decryptor.apply(&mut after);
    assert_eq!(&after, b"as it is");
    assert!(streams.outgoing.is_none());
    let (mut end, _) = offer(&Offer { methods: 1, ..GOOD }).unwrap();
    assert!(end.finish().unwrap().incoming.is_none());
}

/// What the puppet answers to a machine that dials and offers `offered`.
fn answer(
    offered: Methods,
    padding: usize,
    constant: [u8; 8],
    chosen: u32,
    second: u16,
) -> Result<Streams, MseError> {
    let mut end = dials(offered, b"hello", 5);
    let mut said = Vec::new();
    end.take_output(&mut said);
    let mut puppet = Puppet::new(&said, false);
    let mut bytes = puppet.private.public().to_vec();
    bytes.extend(vec![0xee; padding]);
    let pad = vec![0; usize::from(second)];
    bytes.extend(puppet.encrypt(&[
        &constant,
        &chosen.to_be_bytes(),
        &second.to_be_bytes(),
        &pad,
    ]));
    feed(&mut end, &mut VecDeque::from(bytes), 11)?;
    Ok(end.finish().expect("all was said"))
}

#[test]
fn who_dials_refuses_what_is_wrong() {
    use MseError::*;
    let zeros = [0; 8];
    let refused = |padding, constant, chosen, second| {
        answer(Methods::ANY, padding, constant, chosen, second)
            .map(|_| ())
            .unwrap_err()
    };
    for chosen in [1, 2] {
        assert!(answer(Methods::ANY, 512, zeros, chosen, 512).is_ok());
    }
    assert_eq!(refused(513, zeros, 1, 0), NoSync);
    assert_eq!(refused(400, [9; 8], 1, 512), NoSync);
    for chosen in [0, 3, 4, 0x8000_0001] {
        assert_eq!(refused(0, zeros, chosen, 0), NotOffered, "{chosen}");
    }
    assert_eq!(
        answer(Methods::RC4, 0, zeros, 1, 0).map(|_| ()),
        Err(NotOffered)
    );
    assert_eq!(answer(PLAIN, 0, zeros, 2, 0).map(|_| ()), Err(NotOffered));
    assert_eq!(refused(0, zeros, 2, 513), PaddingTooLong(513));
}

#[test]
fn keys_without_a_secret_end_it_at_both_ends() {
    for key in [[0; KEY_LEN], [0xff; KEY_LEN]] {
        for mut end in [dials(Methods::ANY, b"", 1), accepts(Methods::ANY)] {
            let mut pipe = VecDeque::from(key.to_vec());
            assert_eq!(feed(&mut end, &mut pipe, 50), Err(MseError::WeakKey));
        }
    }
}

/// Two handshakes have nothing in common that a listener could know them by.
#[test]
fn nothing_repeats() {
    let mut source = source(1);
    let firsts: Vec<_> = (0..50)
        .map(|_| {
            let side = MseSide::Dials {
                info_hash: TORRENT,
                payload: Vec::new(),
            };
            let mut out = Vec::new();
            MseHandshake::new(side, Methods::ANY, &mut source).take_output(&mut out);
            out
        })
        .collect();
    let mut keys: Vec<_> = firsts.iter().map(|out| out[..KEY_LEN].to_vec()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 50);
    let mut lens: Vec<_> = firsts.iter().map(Vec::len).collect();
    lens.sort();
    assert!(lens[0] >= KEY_LEN && lens[49] <= KEY_LEN + 512);
    lens.dedup();
    assert!(lens.len() > 30, "{lens:?}");
}
