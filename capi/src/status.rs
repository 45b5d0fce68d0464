//! What a call answers: a number, and words for the calling thread. The one place where panics stop.

use idlora::Error;
use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a function returns.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum idlora_status {
    /// Done.
    IDLORA_STATUS_OK = 0,
    /// A pointer, handle, struct_size or enumeration value that cannot be right, or operands that overlap.
    IDLORA_STATUS_ARGUMENT = 1,
    /// An operand of a wrong shape or length.
    IDLORA_STATUS_SHAPE = 2,
    /// A parameter outside what the method allows.
    IDLORA_STATUS_PARAMETER = 3,
    /// An operand that is needed and absent, or passed and of no use.
    IDLORA_STATUS_OPERAND = 4,
    /// NaN or infinity where numbers must be finite.
    IDLORA_STATUS_NON_FINITE = 5,
    /// What the method itself excludes.
    IDLORA_STATUS_UNSUPPORTED = 6,
    /// Memory that cannot be had.
    IDLORA_STATUS_OUT_OF_MEMORY = 7,
    /// A file that does not hold what it should.
    IDLORA_STATUS_FORMAT = 8,
    /// The operating system refused to read or write.
    IDLORA_STATUS_IO = 9,
    /// A base weight that the adapter was not made from.
    IDLORA_STATUS_DIGEST = 10,
    /// A kernel that failed: a defect of the library.
    IDLORA_STATUS_KERNEL = 11,
    /// A device that is not there, not known, or that cannot do it.
    IDLORA_STATUS_DEVICE = 12,
    /// A panic: a defect of the library. Close the handles that the call took as not const.
    IDLORA_STATUS_INTERNAL = 13,
}

use idlora_status::*;

/// Why a call was refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub status: idlora_status,
    pub message: String,
}

impl Refusal {
    /// Of a pointer, a handle, a struct or an enumeration.
    pub fn argument(message: impl Into<String>) -> Self {
        Self { status: IDLORA_STATUS_ARGUMENT, message: message.into() }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Shape { .. } => IDLORA_STATUS_SHAPE,
            Error::Parameter { .. } => IDLORA_STATUS_PARAMETER,
            Error::Operand { .. } => IDLORA_STATUS_OPERAND,
            Error::NonFinite { .. } => IDLORA_STATUS_NON_FINITE,
            Error::Unsupported { .. } => IDLORA_STATUS_UNSUPPORTED,
            Error::OutOfMemory { .. } => IDLORA_STATUS_OUT_OF_MEMORY,
            Error::Format { .. } => IDLORA_STATUS_FORMAT,
            Error::Io { .. } => IDLORA_STATUS_IO,
            Error::Digest { .. } => IDLORA_STATUS_DIGEST,
            Error::Kernel { .. } => IDLORA_STATUS_KERNEL,
            Error::Device { .. } => IDLORA_STATUS_DEVICE,
            _ => IDLORA_STATUS_INTERNAL,
        };
        Self { status, message: error.to_string() }
    }
}

/// What every exported function does inside.
pub(crate) type Answer<T = ()> = Result<T, Refusal>;

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Runs a call: keeps its words for [`idlora_last_error`], or none where it went well, and turns a panic into a status.
pub(crate) fn answer(call: impl FnOnce() -> Answer) -> i32 {
    // What a panic leaves half done is named in the header: IDLORA_STATUS_INTERNAL.
    let refusal = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => None,
        Ok(Err(refusal)) => Some(refusal),
        Err(payload) => Some(of_panic(payload)),
    };
    let (status, message) = refusal.map_or((IDLORA_STATUS_OK, String::new()), |it| (it.status, it.message));
    // A name may have brought a NUL along.
    let message = CString::new(message.replace('\0', "\\0")).unwrap_or_default();
    // Without a place for words, in a thread that is going down, the number must do.
    let _ = LAST.try_with(|last| last.replace(message));
    status as i32
}

fn of_panic(payload: Box<dyn Any + Send>) -> Refusal {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string).or_else(|| payload.downcast_ref().cloned());
    let message = format!("internal error: {}", text.as_deref().unwrap_or("a panic without words"));
    // Dropping what was thrown may itself throw.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
    Refusal { status: IDLORA_STATUS_INTERNAL, message }
}

/// Why the last call of this thread was refused, as one line of UTF-8; "" if it went well. Calls that return no status do
/// not count. Owned by the library, and good until the thread's next call that returns a status.
#[unsafe(no_mangle)]
pub extern "C" fn idlora_last_error() -> *const c_char {
    let words = LAST.try_with(|last| last.borrow().as_ptr());
    words.unwrap_or(c"".as_ptr())
}

/// The name of a status without its prefix, such as "SHAPE"; "UNKNOWN" for other numbers. Never freed.
#[unsafe(no_mangle)]
pub extern "C" fn idlora_status_name(status: i32) -> *const c_char {
    let named = NAMES.iter().find(|(known, _)| *known as i32 == status);
    named.map_or(c"UNKNOWN", |(_, name)| name).as_ptr()
}

const NAMES: [(idlora_status, &CStr); 14] = [
    (IDLORA_STATUS_OK, c"OK"),
    (IDLORA_STATUS_ARGUMENT, c"ARGUMENT"),
    (IDLORA_STATUS_SHAPE, c"SHAPE"),
    (IDLORA_STATUS_PARAMETER, c"PARAMETER"),
    (IDLORA_STATUS_OPERAND, c"OPERAND"),
    (IDLORA_STATUS_NON_FINITE, c"NON_FINITE"),
    (IDLORA_STATUS_UNSUPPORTED, c"UNSUPPORTED"),
    (IDLORA_STATUS_OUT_OF_MEMORY, c"OUT_OF_MEMORY"),
    (IDLORA_STATUS_FORMAT, c"FORMAT"),
    (IDLORA_STATUS_IO, c"IO"),
    (IDLORA_STATUS_DIGEST, c"DIGEST"),
    (IDLORA_STATUS_KERNEL, c"KERNEL"),
    (IDLORA_STATUS_DEVICE, c"DEVICE"),
    (IDLORA_STATUS_INTERNAL, c"INTERNAL"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> String {
        LAST.with(|last| last.borrow().to_str().unwrap().to_owned())
    }

    /// As C calls it: a panic that leaves this function would abort the process.
    extern "C" fn fails(how: i32) -> i32 {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("and again");
            }
        }
        answer(|| match how {
            0 => Ok(()),
            1 => panic!("number {how}"),
            2 => panic!("plain"),
            3 => std::panic::panic_any(Bomb),
            _ => Err(Refusal::argument("a\0b")),
        })
    }

    #[test]
    fn panics_become_a_status_with_their_words() {
        assert_eq!((fails(1), words().as_str()), (IDLORA_STATUS_INTERNAL as i32, "internal error: number 1"));
        assert_eq!((fails(2), words().as_str()), (IDLORA_STATUS_INTERNAL as i32, "internal error: plain"));
        assert_eq!((fails(3), words().as_str()), (13, "internal error: a panic without words"));
    }

    #[test]
    fn words_are_those_of_the_last_call_of_the_thread() {
        assert_eq!((fails(4), words().as_str()), (IDLORA_STATUS_ARGUMENT as i32, "a\\0b"));
        std::thread::spawn(|| assert_eq!(words(), "")).join().unwrap();
        assert_eq!((fails(0), words().as_str()), (0, ""));
    }

    #[test]
    fn every_status_has_its_own_name_and_number() {
        for (number, (status, name)) in NAMES.iter().enumerate() {
            assert_eq!(*status as usize, number);
            assert_eq!(format!("{status:?}"), format!("IDLORA_STATUS_{}", name.to_str().unwrap()));
        }
    }
}
