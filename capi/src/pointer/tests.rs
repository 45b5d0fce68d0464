//! The door, with pointers as bad as they come without leaving Rust's rules.

use super::*;

struct opaque;
struct other;

impl Handle for opaque {
    type Value = String;
    const TAG: u64 = 11;
    const NAME: &'static str = "opaque";
}

impl Handle for other {
    type Value = u8;
    const TAG: u64 = 12;
    const NAME: &'static str = "other";
}

fn words<T>(answer: Answer<T>) -> String {
    answer.err().expect("a refusal").message
}

#[test]
fn handles_are_told_apart() {
    let (one, two) = (give::<opaque>("text".to_owned()), give::<other>(3));
    // SAFETY: live handles, of another kind, none, or at an odd address.
    unsafe {
        assert_eq!(shared("it", one).unwrap(), "text");
        exclusive("it", one).unwrap().push('s');
        assert_eq!(shared("it", one).unwrap(), "texts");
        assert_eq!(words(shared::<other>("it", one.cast())), "`it` is no other");
        assert_eq!(words(shared::<opaque>("it", two.cast())), "`it` is no opaque");
        assert_eq!(words(shared::<opaque>("it", std::ptr::null())), "`it` is null");
        assert!(words(shared::<opaque>("it", one.wrapping_byte_add(1))).contains("expected a multiple of 8"));
        assert_eq!(words(close::<other>("it", one.cast())), "`it` is no other");
        close("it", one).unwrap();
        close("it", two).unwrap();
        close::<opaque>("it", std::ptr::null_mut()).unwrap();
    }
    let mut closed = [CLOSED; 4];
    // SAFETY: what a closed handle leaves, as long as its memory is not used again.
    assert_eq!(words(unsafe { shared::<opaque>("it", closed.as_mut_ptr().cast()) }), "`it` was closed already");
}

#[test]
fn texts_and_elements_are_checked() {
    // SAFETY: texts and arrays that are there, or refused before they are looked at.
    unsafe {
        assert_eq!(text("it", c"ü".as_ptr()).unwrap(), "ü");
        assert_eq!(words(text("it", std::ptr::null())), "`it` is null");
        assert!(words(text("it", c"\xff".as_ptr())).starts_with("`it` is not UTF-8"));
        let values = [1u32, 2, 3];
        assert_eq!(elements("it", values.as_ptr(), 3).unwrap(), [1, 2, 3]);
        assert!(elements("it", std::ptr::null::<u32>(), 0).unwrap().is_empty());
        assert_eq!(words(elements("it", std::ptr::null::<u32>(), 1)), "`it` is null");
        assert!(words(elements("it", values.as_ptr(), usize::MAX / 2)).contains("more than memory holds"));
        assert!(words(elements("it", values.as_ptr().wrapping_byte_add(2), 1)).contains("expected a multiple of 4"));
        let mut place = 1u32;
        Place::at("it", &raw mut place).unwrap().put(9);
        assert_eq!(place, 9);
        assert_eq!(words(Place::<u32>::at("it", std::ptr::null_mut()).map(drop)), "`it` is null");
    }
}

/// A struct that has grown once.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
struct Grown {
    struct_size: usize,
    old: u64,
    new: u64,
}

// SAFETY: `repr(C)`, a `usize` first, numbers alone.
unsafe impl Growing for Grown {
    const NAME: &'static str = "grown";
    const FIRST: usize = 16;
}

#[test]
fn structs_grow_in_both_directions() {
    // The caller's memory, with what lies behind it.
    let caller = |size: usize, behind: u64| [size as u64, 5, behind, behind, 7];
    // SAFETY: as many bytes are there as the sizes say, or they are refused.
    let read = |memory: &[u64; 5]| unsafe { super::read::<Grown>("it", memory.as_ptr().cast()) };
    assert_eq!(read(&caller(16, 9)).unwrap(), Grown { struct_size: 16, old: 5, new: 0 }, "an older header");
    assert_eq!(read(&caller(24, 9)).unwrap(), Grown { struct_size: 24, old: 5, new: 9 }, "this one");
    assert_eq!(read(&caller(32, 0)).unwrap(), Grown { struct_size: 32, old: 5, new: 0 }, "a newer one");
    assert!(words(read(&caller(32, 9))).contains("uses members of grown that this library does not know"));
    for wrong in [0, 8, 15, 1 << 40] {
        assert_eq!(
            words(read(&caller(wrong, 0))),
            format!("`it`: struct_size is {wrong}, expected sizeof(grown), which is 24")
        );
    }
    // SAFETY: null is refused.
    assert_eq!(words(unsafe { super::read::<Grown>("it", std::ptr::null()) }), "`it` is null");

    let answer = Grown { struct_size: 24, old: 1, new: 2 };
    for (size, expected) in [(16, [16, 1, 9, 9, 7]), (24, [24, 1, 2, 9, 7]), (32, [32, 1, 2, 0, 7])] {
        let mut memory = caller(size, 9);
        // SAFETY: as many bytes are there.
        let place = unsafe { GrowingPlace::at("it", memory.as_mut_ptr().cast::<Grown>()) }.unwrap();
        place.put(&answer);
        assert_eq!(memory, expected, "struct_size {size}");
    }
}
