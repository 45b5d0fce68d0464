//! `shfl`, `vote`, `match`, `redux`, `activemask`, `bar.warp.sync`, whole warps and parts of them.

use super::{Kernel, slots, word};

pub fn all() {
    shuffles();
    votes();
    matches();
    reductions();
    active_masks();
    warp_barriers();
    parts_of_a_warp_meet_by_mask();
}

/// The manual's pseudo-code of `shfl`, written down again.
fn shuffle(mode: &str, lane: u32, b: u32, c: u32) -> (u32, bool) {
    let (b, clamp, segment) = (b & 0x1f, c & 0x1f, c >> 8 & 0x1f);
    let (highest, lowest) = (lane & segment | clamp & !segment, lane & segment);
    let (j, valid) = match mode {
        "up" => (lane as i32 - b as i32, lane as i32 - b as i32 >= highest as i32),
        "down" => ((lane + b) as i32, lane + b <= highest),
        "bfly" => ((lane ^ b) as i32, lane ^ b <= highest),
        _ => ((lowest | b & !segment) as i32, lowest | b & !segment <= highest),
    };
    if valid { (j as u32, true) } else { (lane, false) }
}

#[test]
fn shuffles() {
    let input = slots(8);
    for mode in ["up", "down", "bfly", "idx"] {
        for width in [32, 16, 8, 4, 2] {
            for b in [0, 1, 3, 7, 16, 31] {
                let c = (32 - width) << 8 | if mode == "up" { 0 } else { 31 };
                let body = format!(
                    ".reg .b32 %a, %d; .reg .pred %p; .reg .b32 %t; ld.global.u32 %a, [%in];
                    shfl.sync.{mode}.b32 %d|%p, %a, {b}, {c}, -1;
                    selp.b32 %t, 1, 0, %p; st.global.u32 [%out], %d; st.global.u32 [%out+4], %t;
                    shfl.sync.{mode}.b32 %a, %a, {b}, {c}, -1; st.global.u32 [%out+8], %a;"
                );
                let output = Kernel::of(body).run_words(&input);
                for (lane, found) in output.iter().enumerate() {
                    let (source, valid) = shuffle(mode, lane as u32, b, c);
                    let value = word(&input, source as usize, 0);
                    assert_eq!(found[..3], [value, valid.into(), value], "{mode} {b} width {width}, lane {lane}");
                }
            }
        }
    }
}

/// Runs `%p` = bit 0 of the input, in lanes of `members` only, and gives back word 0 of each lane.
fn voted(instruction: &str, members: u32, input: &[u8]) -> Vec<u32> {
    let body = format!(
        ".reg .b32 %a, %d, %m; .reg .pred %p, %q, %in_party; ld.global.u32 %a, [%in]; and.b32 %a, %a, 1; mov.u32 %d, 77;
        setp.ne.u32 %p, %a, 0; mov.u32 %m, {members}; shr.u32 %a, %m, %lane; and.b32 %a, %a, 1; setp.ne.u32 %in_party, %a, 0;
        @!%in_party bra skip;\n{instruction}\nskip: st.global.u32 [%out], %d;"
    );
    Kernel::of(body).run_words(input).iter().map(|slot| slot[0]).collect()
}

#[test]
fn votes() {
    let mixed = slots(9);
    let (none, every) = (vec![0; mixed.len()], vec![1; mixed.len()]);
    for input in [&mixed, &none, &every] {
        for members in [u32::MAX, 0x0000_ffff, 0x8000_0001, 0x1248_1248] {
            let ayes =
                (0..32).filter(|lane| word(input, *lane, 0) & 1 == 1).fold(0_u32, |m, lane| m | 1 << lane) & members;
            let predicate = |kind: &str| format!("vote.sync.{kind}.pred %q, %p, %m; selp.b32 %d, 1, 0, %q;");
            let negated = "vote.sync.any.pred %q, !%p, %m; selp.b32 %d, 1, 0, %q;".to_owned();
            for (instruction, expected) in [
                ("vote.sync.ballot.b32 %d, %p, %m;".to_owned(), ayes),
                (predicate("all"), u32::from(ayes == members)),
                (predicate("any"), u32::from(ayes != 0)),
                (predicate("uni"), u32::from(ayes == 0 || ayes == members)),
                (negated, u32::from(ayes != members)),
            ] {
                let found = voted(&instruction, members, input);
                let expected = (0..32).map(|lane| if members >> lane & 1 == 1 { expected } else { 77 });
                assert!(found.iter().copied().eq(expected), "{instruction} among {members:#x}: {found:x?}");
            }
        }
    }
}

#[test]
fn matches() {
    let mut input = slots(10);
    // Few different values, in pairs of words for the 64-bit form; the last is the same for all.
    for (i, byte) in input.iter_mut().enumerate() {
        *byte = if i % 64 < 8 { *byte & u8::from(i % 4 == 0) } else { 9 };
    }
    for bits in [32, 64] {
        for offset in [0, 8] {
            let body = format!(
                ".reg .b{bits} %a; .reg .b32 %d, %e, %t; .reg .pred %p; ld.global.b{bits} %a, [%in+{offset}];
                match.any.sync.b{bits} %d, %a, -1; match.all.sync.b{bits} %e|%p, %a, -1; selp.b32 %t, 1, 0, %p;
                st.global.u32 [%out], %d; st.global.u32 [%out+4], %e; st.global.u32 [%out+8], %t;"
            );
            let output = Kernel::of(body).run_words(&input);
            let value = |lane: usize| {
                (word(&input, lane, offset / 4), (bits == 64).then(|| word(&input, lane, offset / 4 + 1)))
            };
            for (lane, found) in output.iter().enumerate() {
                let equal = (0..32).filter(|other| value(*other) == value(lane)).fold(0_u32, |m, other| m | 1 << other);
                let all = equal == u32::MAX;
                let expected = [equal, if all { u32::MAX } else { 0 }, all.into()];
                assert_eq!(found[..3], expected, "b{bits} at {offset}, lane {lane}");
            }
        }
    }
}

#[test]
fn reductions() {
    let input = slots(11);
    type Combine = fn(u32, u32) -> u32;
    let operations: [(&str, Combine); 9] = [
        ("add.u32", u32::wrapping_add),
        ("add.s32", u32::wrapping_add),
        ("min.u32", u32::min),
        ("max.u32", u32::max),
        ("min.s32", |a, b| (a as i32).min(b as i32) as u32),
        ("max.s32", |a, b| (a as i32).max(b as i32) as u32),
        ("and.b32", |a, b| a & b),
        ("or.b32", |a, b| a | b),
        ("xor.b32", |a, b| a ^ b),
    ];
    for (operation, combine) in operations {
        for members in [u32::MAX, 0x00ff_ff00, 0x8000_0001] {
            let instruction = format!("ld.global.u32 %a, [%in]; redux.sync.{operation} %d, %a, %m;");
            let party = (0..32).filter(|lane| members >> lane & 1 == 1);
            let expected = party.map(|lane| word(&input, lane, 0)).reduce(combine).unwrap();
            let found = voted(&instruction, members, &input);
            let expected = (0..32).map(|lane| if members >> lane & 1 == 1 { expected } else { 77 });
            assert!(found.iter().copied().eq(expected), "{operation} among {members:#x}: {found:x?}");
        }
    }
}

#[test]
fn active_masks() {
    let body = ".reg .b32 %a, %b; .reg .pred %p; activemask.b32 %a; mov.u32 %b, 0; setp.lt.u32 %p, %lane, 5;
        @%p activemask.b32 %b; st.global.u32 [%out], %a; st.global.u32 [%out+4], %b;";
    let output = Kernel::of(body).run_words(&slots(0));
    for (lane, found) in output.iter().enumerate() {
        assert_eq!(found[..2], [u32::MAX, if lane < 5 { 0b11111 } else { 0 }], "lane {lane}");
    }
}

/// Lanes exchange through shared memory, ordered by `bar.warp.sync` alone; a missing barrier would be a race.
#[test]
fn warp_barriers() {
    let input = slots(12);
    let body = ".shared .align 4 .b32 s[32]; .reg .b32 %a, %p, %q; ld.global.u32 %a, [%in]; mov.u32 %base, s; mad.lo.u32 %p, %lane, 4, %base;
        xor.b32 %q, %lane, 1; mov.u32 %base, s; mad.lo.u32 %q, %q, 4, %base; st.shared.u32 [%p], %a; bar.warp.sync -1; ld.shared.u32 %a, [%q];
        st.global.u32 [%out], %a;";
    let output = Kernel::of(body).run_words(&input);
    assert!((0..32).all(|lane| output[lane][0] == word(&input, lane ^ 1, 0)));
}

/// Two halves of a warp wait for each other from different branches; each then shuffles among its own lanes.
#[test]
fn parts_of_a_warp_meet_by_mask() {
    let input = slots(13);
    let body = ".reg .b32 %a; .reg .pred %low; setp.lt.u32 %low, %lane, 16; ld.global.u32 %a, [%in];
        @%low bra left;
        bar.warp.sync -1; shfl.sync.bfly.b32 %a, %a, 1, 31, 0xffff0000; bra join;
        left: shfl.sync.bfly.b32 %a, %a, 2, 31, 0x0000ffff; bar.warp.sync -1;
        join: bar.warp.sync -1; st.global.u32 [%out], %a;";
    let output = Kernel::of(body).run_words(&input);
    for (lane, found) in output.iter().enumerate() {
        assert_eq!(found[0], word(&input, lane ^ if lane < 16 { 2 } else { 1 }, 0), "lane {lane}");
    }
}
