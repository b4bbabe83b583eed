//! `core_inputs` under libFuzzer: see `targets/mod.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    (raftkv_fuzz::inputs::CORE_INPUTS.run)(input);
});
