//! `cluster_toml` under libFuzzer: see `targets/mod.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    (raftkv_fuzz::files::CLUSTER_TOML.run)(input);
});
