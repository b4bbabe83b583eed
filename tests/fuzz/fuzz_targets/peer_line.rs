//! `peer_line` under libFuzzer: see `targets/mod.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    (raftkv_fuzz::lines::PEER_LINE.run)(input);
});
