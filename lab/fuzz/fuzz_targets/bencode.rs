//! Any bytes: read or refused, and what was read says the same when written again from its own bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = torr_bencode::parse(bytes) {
        assert_eq!(value.raw(), bytes);
        if let Some(dict) = value.as_dict() {
            for (key, value) in dict.iter() {
                assert_eq!(dict.get(key).map(|v| v.raw()), Some(value.raw()));
            }
        }
    }
    if let Ok((value, rest)) = torr_bencode::parse_prefix(bytes) {
        assert_eq!(value.raw().len() + rest.len(), bytes.len());
    }
});
