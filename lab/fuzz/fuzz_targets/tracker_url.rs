//! Any text as a tracker's URL; and a mask is no longer a secret.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torr_tracker::{TrackerUrl, mask, mask_text};

fuzz_target!(|text: &str| {
    if let Ok(url) = TrackerUrl::parse(text) {
        assert_eq!(TrackerUrl::parse(url.as_str()).map(|u| u.as_str().to_owned()), Ok(url.as_str().to_owned()));
    }
    let _ = mask(text);
    let _ = mask_text(text);
});
