//! What the header says of threads: a plan that several use at a time, and words that are each thread's own.

use idlora_capi::device::{idlora_device, idlora_device_close, idlora_device_open};
use idlora_capi::operands::{idlora_forward_operands, idlora_matrix, idlora_matrix_mut};
use idlora_capi::plan::{idlora_forward, idlora_module, idlora_plan, idlora_plan_close, idlora_plan_module};
use idlora_capi::status::idlora_last_error;
use std::ffi::CStr;
use std::ptr::{null, null_mut};
use std::sync::Barrier;

const ROWS: usize = 64;
const COMPONENTS: usize = 4;
const TOKENS: usize = 50;

/// A handle that goes to other threads, as C's would.
#[derive(Clone, Copy)]
struct Shared(*const idlora_plan);

// SAFETY: header, Threads: functions that take a plan as const may run on it from several threads.
unsafe impl Send for Shared {}
// SAFETY: the same.
unsafe impl Sync for Shared {}

fn words() -> String {
    // SAFETY: header, idlora_last_error: a text that is good until this thread's next call.
    unsafe { CStr::from_ptr(idlora_last_error()) }.to_str().unwrap().to_owned()
}

fn planned() -> *mut idlora_plan {
    let (mut device, mut plan): (*mut idlora_device, *mut idlora_plan) = (null_mut(), null_mut());
    let skeleton: Vec<u32> = (0..16).map(|i| i * 4 + 1).collect();
    let module = idlora_module {
        struct_size: size_of::<idlora_module>(),
        rows: ROWS,
        cols: 8,
        rank: 4,
        components: COMPONENTS,
        split: 2,
        skeleton: skeleton.as_ptr(),
        scale: 0.5,
        gate: 5,
    };
    // SAFETY: a text, places for handles, and a struct with 16 row numbers.
    unsafe {
        assert_eq!(idlora_device_open(c"cpu".as_ptr(), &raw mut device), 0, "{}", words());
        assert_eq!(idlora_plan_module(device, &raw const module, 0, 0, &raw mut plan), 0, "{}", words());
        assert_eq!(idlora_device_close(device), 0);
    }
    plan
}

/// A forward on values that depend on `seed`, in place.
fn forward(plan: Shared, seed: usize) -> Vec<f32> {
    let values =
        |count: usize, step: usize| (0..count).map(|i| ((i * step + seed) % 17) as f32 - 8.0).collect::<Vec<_>>();
    let (b, gate, mut y) = (values(ROWS / 2 * 2, 5), values(COMPONENTS, 3), values(TOKENS * ROWS, 7));
    let absent = idlora_matrix { data: null(), rows: 0, cols: 0, ld: 0 };
    let nowhere = idlora_matrix_mut { data: null_mut(), rows: 0, cols: 0, ld: 0 };
    let matrix = |data: &[f32], rows, cols| idlora_matrix { data: data.as_ptr().cast(), rows, cols, ld: cols };
    let operands = idlora_forward_operands {
        struct_size: size_of::<idlora_forward_operands>(),
        dtype: 1,
        reserved: 0,
        b: matrix(&b, ROWS / 2, 2),
        gate: matrix(&gate, 1, COMPONENTS),
        h: absent,
        w: absent,
        bias: absent,
        dropout: idlora_capi::operands::idlora_dropout { seed: 0, offset: 0, probability: 0.0, reserved: 0 },
        y0: absent,
        y: idlora_matrix_mut { data: y.as_mut_ptr().cast(), rows: TOKENS, cols: ROWS, ld: ROWS },
        saved_x: nowhere,
        saved_gate: nowhere,
        saved_z: nowhere,
    };
    // SAFETY: a live plan, and matrices of this thread's.
    let status = unsafe { idlora_forward(plan.0, &raw const operands, null_mut()) };
    assert_eq!(status, 0, "{}", words());
    y
}

#[test]
fn a_plan_serves_many_threads() {
    let plan = planned();
    let shared = Shared(plan);
    let alone: Vec<_> = (0..6).map(|seed| forward(shared, seed)).collect();
    assert!(alone.iter().all(|y| y.iter().all(|x| x.is_finite())) && alone[0] != alone[1]);
    std::thread::scope(|scope| {
        for (seed, alone) in alone.iter().enumerate() {
            scope.spawn(move || (0..20).for_each(|_| assert_eq!(&forward(shared, seed), alone)));
        }
    });
    // SAFETY: nobody uses it any more.
    assert_eq!(unsafe { idlora_plan_close(plan) }, 0);
}

#[test]
fn words_belong_to_their_thread() {
    let both = Barrier::new(2);
    let refused = |name: &'static CStr, expected: &str| {
        let mut device: *mut idlora_device = null_mut();
        // SAFETY: a text, and a place for a handle.
        assert_eq!(unsafe { idlora_device_open(name.as_ptr(), &raw mut device) }, 12);
        both.wait(); // until the other was refused too
        assert!(words().starts_with(&format!("device `{expected}`")), "{}", words());
    };
    std::thread::scope(|scope| {
        scope.spawn(|| refused(c"one", "one"));
        scope.spawn(|| refused(c"other", "other"));
    });
}
