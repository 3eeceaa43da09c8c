use torr_base::{InfoHash, PieceIndex, Rng};

use super::*;

fn header(pieces: u32) -> LogHeader {
    LogHeader {
        info_hash: InfoHash([7; 20]),
        pieces,
        piece_len: 1 << 23,
        total: u64::from(pieces) << 23,
        files: 1000,
    }
}

fn have(piece: u32) -> Record {
    let (first, bits) = bits_of(piece);
    Record::Have { first, bits }
}

fn some_record(rng: &mut Rng, frame: u64, pieces: u32) -> Record {
    let index = rng.below(u64::from(pieces)) as u32;
    let piece = PieceIndex::new(index);
    let file = rng.below(1000) as u32;
    let (first, bits) = bits_of(file);
    match rng.below(15) {
        0 => Record::Root {
            file_system: rng.next_u64(),
            inode: rng.next_u64(),
        },
        1 => Record::Session {
            boot: [index as u8; 16],
        },
        2 => Record::Forget { piece },
        3 => Record::Mark {
            frames: rng.below(frame + 1),
        },
        4 | 5 => {
            let (first, bits) = bits_of(rng.below(512) as u32);
            Record::Spilled { piece, first, bits }
        }
        6 => Record::Unspilled { piece },
        7 => Record::Intent {
            first: file,
            count: 1000 - file,
        },
        8 => Record::Made { first, bits },
        9 => Record::Placed { first, bits },
        10 => Record::Stamp {
            file,
            stamp: FileStamp {
                len: rng.next_u64(),
                modified: -5,
                inode: 9,
            },
        },
        11 => Record::Closed,
        12 => Record::Gone { file },
        _ => have(index),
    }
}

fn some_log(rng: &mut Rng, records: usize, pieces: u32) -> (LogImage, Vec<u8>) {
    let mut image = LogImage::new(header(pieces));
    let mut bytes = Vec::new();
    let mut push = |record: Record| {
        encode_record(&record, image.frames(), &mut bytes);
        assert!(image.apply(&record), "{record:?}");
        image.frames()
    };
    push(Record::Header(header(pieces)));
    let mut frame = push(Record::Header(header(pieces)));
    for part in NamePart::split(
        4,
        "a rather long folder name/and one more of those/file.txt",
    ) {
        frame = push(Record::Name(part));
    }
    for _ in 0..records {
        frame = push(some_record(rng, frame, pieces));
    }
    (image, bytes)
}

#[test]
fn what_was_written_is_read_and_compaction_keeps_it() {
    let mut rng = Rng::new(1);
    for _ in 0..50 {
        let (image, bytes) = some_log(&mut rng, 300, 1000);
        let (read, damage) = read_log(&bytes, &header(1000)).unwrap();
        assert_eq!((&read, damage), (&image, Damage::default()));
        let name = read.name(4).unwrap();
        assert_eq!(
            name,
            "a rather long folder name/and one more of those/file.txt"
        );

        let (small, bytes) = image.rewrite(&image.compact());
        let (read, damage) = read_log(&bytes, &header(1000)).unwrap();
        assert_eq!((&read, damage), (&small, Damage::default()));
        assert_eq!(small.have(), image.have());
        assert_eq!(small.durable(), image.durable());
        assert_eq!(small.spilled(), image.spilled());
        assert_eq!(small.closed(), image.closed());
        assert_eq!((small.root(), small.boot()), (image.root(), image.boot()));
        for file in 0..1000 {
            assert_eq!(small.made(file), image.made(file));
            assert_eq!(small.placed(file), image.placed(file));
            assert_eq!(small.intended(file), image.intended(file));
            assert_eq!(small.stamp(file), image.stamp(file));
        }
        // What is the smallest form is not compacted to something else.
        assert_eq!(small.compact(), image.compact());
    }
}

/// G13: each byte flipped. Nothing panics, the loss is seen, and it is one record.
#[test]
fn a_flipped_byte_costs_one_record_and_never_invents_a_piece() {
    let mut rng = Rng::new(2);
    // Without `Forget`: losing that one is the case of the next test.
    let mut image = LogImage::new(header(1000));
    let mut bytes = Vec::new();
    let mut records = vec![image.header(), image.header()];
    for frame in 2..60 {
        let record = some_record(&mut rng, frame, 1000);
        let forget = matches!(record, Record::Forget { .. });
        records.push(if forget { have(3) } else { record });
    }
    for record in &records {
        encode_record(record, image.frames(), &mut bytes);
        assert!(image.apply(record));
    }
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            bytes[at] ^= flip;
            let (read, damage) = read_log(&bytes, &header(1000)).unwrap();
            assert_eq!(damage.frames, 1, "at {at}");
            assert_eq!(damage.first_at, Some((at / FRAME_LEN * FRAME_LEN) as u64));
            assert!(!read.have().any_and_not(image.have()));
            assert!(!read.durable().any_and_not(image.durable()));
            assert!(read.have().count() + 1 >= image.have().count());
            assert_eq!(read.frames(), image.frames());
            bytes[at] ^= flip;
        }
    }
}

/// G13: cut at each length. What is read is what the log said when it was that long.
#[test]
fn a_cut_log_is_the_log_of_an_earlier_moment() {
    let mut rng = Rng::new(3);
    let (_, bytes) = some_log(&mut rng, 60, 1000);
    let mut earlier = LogImage::new(header(1000));
    for len in 0..=bytes.len() {
        let read = read_log(&bytes[..len], &header(1000));
        if len < FRAME_LEN {
            assert_eq!(read, Err(LogError::NoHeader));
            continue;
        }
        let (read, damage) = read.unwrap();
        if len % FRAME_LEN == 0 {
            earlier = read.clone();
        }
        assert_eq!(read, earlier);
        assert_eq!(damage.torn_bytes, (len % FRAME_LEN) as u64);
        assert!(!damage.any());
    }
}

#[test]
fn rubbish_is_never_read_as_pieces() {
    let mut rng = Rng::new(4);
    for len in 0..300 {
        let mut bytes = vec![0; len];
        rng.fill(&mut bytes);
        assert!(read_log(&bytes, &header(10)).is_err());
        let (_, mut log) = some_log(&mut rng, 0, 10);
        log.extend_from_slice(&bytes);
        let (read, damage) = read_log(&log, &header(10)).unwrap();
        assert!(read.have().is_empty());
        assert_eq!(damage.frames, (len / FRAME_LEN) as u64);
    }
}

#[test]
fn a_mark_covers_only_the_frames_that_it_names() {
    let mut image = LogImage::new(header(10));
    let h = image.header();
    for record in [
        h,
        h,
        have(1),
        Record::Forget {
            piece: PieceIndex::new(1),
        },
        have(2),
        have(1),
        have(3),
        Record::Mark { frames: 5 },
    ] {
        assert!(image.apply(&record));
    }
    let durable: Vec<_> = image.durable().iter().map(PieceIndex::get).collect();
    assert_eq!(durable, [2]);
    assert_eq!(image.have().count(), 3);
    assert!(image.apply(&Record::Mark { frames: 7 }));
    assert_eq!(image.durable(), image.have());
}

#[test]
fn records_that_make_no_sense_for_the_torrent_are_damage() {
    let mut image = LogImage::new(header(10));
    for record in [
        have(10),
        Record::Forget {
            piece: PieceIndex::new(10),
        },
        Record::Mark { frames: 100 },
        Record::Intent {
            first: 999,
            count: 2,
        },
        Record::Have {
            first: 5,
            bits: bits_of(0).1,
        },
        Record::Header(header(11)),
    ] {
        assert!(!image.apply(&record), "{record:?}");
    }
    assert!(image.have().is_empty());
    assert_eq!(image.frames(), 6);
}

#[test]
fn logs_of_other_torrents_and_versions_are_refused() {
    let (_, bytes) = some_log(&mut Rng::new(5), 3, 10);
    assert_eq!(read_log(&bytes, &header(11)), Err(LogError::OtherTorrent));
    let mut newer = Vec::new();
    encode_record(&Record::Header(header(10)), 0, &mut newer);
    newer[12] = 2;
    let sum = crc32c::crc32c_append(crc32c::crc32c(&0_u64.to_le_bytes()), &newer[4..]);
    newer[..4].copy_from_slice(&sum.to_le_bytes());
    assert_eq!(
        read_log(&newer, &header(10)),
        Err(LogError::OtherVersion(2))
    );
}

#[test]
fn a_long_log_asks_for_compaction_and_a_compacted_one_does_not() {
    let mut image = LogImage::new(header(1000));
    let h = image.header();
    image.apply(&h);
    image.apply(&h);
    while !image.wants_compaction() {
        let piece = (image.frames() % 1000) as u32;
        assert!(image.apply(&have(piece)));
        assert!(image.frames() < 10_000);
    }
    let (small, _) = image.rewrite(&image.compact());
    assert!(!small.wants_compaction());
    assert!(small.frames() < 20);
}
