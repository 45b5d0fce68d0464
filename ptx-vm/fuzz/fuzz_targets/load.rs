//! Any bytes as PTX text: loaded, and run if they load.
#![no_main]

#[path = "../../tests/random/hostile.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // The text decides about the schedule too.
    let seed = bytes.iter().fold(0u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    let _ = hostile::load_and_run(&String::from_utf8_lossy(bytes), seed);
});
