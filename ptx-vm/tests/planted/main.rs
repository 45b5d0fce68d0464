//! Every check catches a bug that was planted for it, at its line, and is silent about a clean twin.
//!
//! The bugs are in the CUDA files beside this one, and so are the lines to report: see [`source`]. What each case is
//! launched with and what must come of it is in the tables below.

mod case;
#[path = "../common/mod.rs"]
mod common;
mod order;
mod setup;
mod source;

use case::{Case, check};
use ptx_vm::FindingKind::*;
use setup::*;

#[test]
fn global_bounds() {
    let case = |name| Case::new(name, GlobalOutOfBounds);
    check(
        "global_bounds.cu",
        &[
            case("past_end").with(out).at(0, 63),
            case("before_start"),
            case("past_slice").with(out_middle).at(0, 32),
            case("before_slice").with(out_middle),
            case("vector").with(out_most).at(0, 15),
            case("atomic").with(out).at(0, 63),
            case("copy").at(0, 63),
            case("variable").with(out).at(0, 16),
            case("constant").with(out).at(0, 16),
            case("null").at(0, 40),
        ],
    );
}

#[test]
fn shared_bounds() {
    let case = |name| Case::new(name, SharedOutOfBounds);
    check(
        "shared_bounds.cu",
        &[
            case("fixed").with(out).at(0, 63),
            case("before").with(out),
            case("dynamic").with(out).launch(|launch| launch.dynamic_shared = 256).at(0, 63),
            case("across").with(out).at(0, 1),
            case("generic").with(out).at(0, 31),
            case("atomic").with(out).shape(1, 32).at(0, 16),
            case("copy").at(0, 63),
            case("matrix").with(out).shape(1, 32).at(0, 7),
        ],
    );
}

#[test]
fn local_bounds() {
    let case = |name| Case::new(name, LocalOutOfBounds);
    check("local_bounds.cu", &[case("past_end").at(0, 8), case("before_start")]);
}

#[test]
fn parameters() {
    let case = |name| Case::new(name, ParamOutOfBounds).with(out_in_table).at(0, 8);
    check("parameters.cu", &[case("past_end"), case("generic")]);
}

#[test]
fn read_only() {
    let case = |name| Case::new(name, ReadOnly);
    check(
        "read_only.cu",
        &[
            case("constant").with(out),
            case("parameter").with(out_table),
            case("aliased").with(out_aliased),
            case("stale").with(out_work),
        ],
    );
}

#[test]
fn misaligned() {
    let case = |name| Case::new(name, Misaligned).shape(1, 32);
    check(
        "misaligned.cu",
        &[
            case("global_word").with(off_by_2),
            case("global_pair").with(off_by_4),
            case("global_quad").with(off_by_8),
            case("global_store").with(off_by_8),
            case("global_lane").with(off_by_4).at(0, 5),
            case("shared_pair").with(off_by_4),
            case("shared_quad").with(off_by_8),
            case("local_pair").with(off_by_4),
            case("atomic").with(off_by_4),
            case("matrix").with(off_by_8),
            case("copy_from").with(off_by_8),
            case("copy_to").with(off_by_8),
        ],
    );
}

#[test]
fn uninitialised() {
    let case = |name| Case::new(name, Uninitialised);
    check(
        "uninitialised.cu",
        &[
            case("global").with(out_raw).at(0, 40),
            case("partial").with(out_raw),
            case("atomic").with(out_raw),
            case("shared").with(out).at(0, 58),
            case("dynamic").with(out).launch(|launch| launch.dynamic_shared = 256).at(0, 32),
            case("next_block").with(out).shape(2, 64).at(1, 0),
            case("local").at(0, 4),
            case("matrix").with(out).shape(1, 32).at(0, 7),
        ],
    );
}

#[test]
fn in_flight() {
    let case = |name| Case::new(name, InFlight).with(out_work);
    check(
        "in_flight.cu",
        &[
            case("read_early"),
            case("too_few"),
            case("not_committed"),
            case("overwrite_source"),
            case("overwrite_target"),
            case("barrier_only").shape(1, 32),
            case("matrix"),
        ],
    );
}

#[test]
fn shared_race() {
    let case = |name| Case::new(name, SharedRace).with(out);
    check(
        "shared_race.cu",
        &[
            case("write_read").either(),
            case("read_write").either(),
            case("write_write").at(0, 32),
            case("loop").with(out_in).either(),
            case("one_instruction").at(0, 1),
            case("lanes").shape(1, 32),
            case("shuffle").shape(1, 32),
            case("halves").shape(1, 32),
            case("chain").shape(1, 32).at(0, 2),
            case("named").shape(1, 96).either(),
            case("arrive").either(),
            case("atomic").either(),
            case("copied").with(out_in).either(),
        ],
    );
}

#[test]
fn shared_lock() {
    let case = |name| Case::new(name, SharedRace).with(out);
    check(
        "shared_lock.cu",
        &[
            case("lock").either(),
            case("unlock").either(),
            case("ordered_lock").either(),
            case("flag").at(0, 32),
            case("unfenced").at(0, 32),
        ],
    );
}

#[test]
fn global_race() {
    let case = |name| Case::new(name, GlobalRace).with(out_work).shape(4, 32);
    check(
        "global_race.cu",
        &[
            case("no_atomic").at(1, 0),
            case("write_write").with(out).at(1, 0),
            case("neighbour").at(1, 0),
            case("no_release").at(3, 0),
            case("no_acquire").at(3, 0),
            case("block_fence").at(3, 0),
            case("flag").launch(|launch| launch.resident = 4).at(1, 0),
        ],
    );
}

#[test]
fn barrier_divergence() {
    let case = |name| Case::new(name, BarrierDivergence).with(out);
    check(
        "barrier_divergence.cu",
        &[
            case("branch").at(0, 32),
            case("early").with(out_in).at(0, 32),
            case("branches").either(),
            case("counts").either(),
            case("reduction").at(0, 32),
            case("loop").with(out_in).either(),
        ],
    );
}

#[test]
fn missing_lanes() {
    let case = |name| Case::new(name, MissingLanes).shape(1, 32);
    check(
        "missing_lanes.cu",
        &[
            case("other_branch"),
            case("exited").at(0, 8),
            case("left_out").at(0, 16),
            case("ballot"),
            case("match").at(0, 8),
            case("redux").at(0, 8),
            case("syncwarp"),
            case("active"),
            case("matrix"),
            case("product"),
        ],
    );
}

#[test]
fn deadlock() {
    let case = |name| Case::new(name, Deadlock).with(out);
    check("deadlock.cu", &[case("crossed"), case("too_many"), case("exited")]);
}

#[test]
fn step_limit() {
    let case = |name| Case::new(name, StepLimit).with(out_work).launch(|launch| launch.step_limit = 100_000);
    check("step_limit.cu", &[case("flag"), case("lock").shape(1, 32).at(0, 1), case("later_block").shape(4, 32)]);
}

#[test]
fn trap() {
    check("trap.cu", &[Case::new("trap", Trap).at(0, 40)]);
}
