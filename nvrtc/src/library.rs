//! The one door to NVRTC: loading, and its C functions behind a safe one. All `unsafe` of the crate is here.
//!
//! Symbols and signatures are those of `nvrtc.h`, unchanged from CUDA 11.2 to 13. NVIDIA documents that threads may
//! call NVRTC concurrently as long as they do not share a program; a program here never leaves the call that creates
//! it.
#![allow(unsafe_code)]

use crate::search::Files;
use crate::{CompileError, Compiled, Source};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};

/// `nvrtcResult`
type Status = c_int;
/// `nvrtcProgram`
type Handle = *mut c_void;
type GetSize = unsafe extern "C" fn(Handle, *mut usize) -> Status;
type GetBytes = unsafe extern "C" fn(Handle, *mut c_char) -> Status;

/// NVRTC's functions. The libraries stay loaded until the process ends, so the pointers stay valid.
#[derive(Debug)]
pub(crate) struct Library {
    path: PathBuf,
    version: (i32, i32),
    error_string: unsafe extern "C" fn(Status) -> *const c_char,
    create: unsafe extern "C" fn(
        *mut Handle,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> Status,
    destroy: unsafe extern "C" fn(*mut Handle) -> Status,
    compile: unsafe extern "C" fn(Handle, c_int, *const *const c_char) -> Status,
    ptx: (GetSize, GetBytes),
    cubin: (GetSize, GetBytes),
    log: (GetSize, GetBytes),
}

#[cfg(unix)]
fn open(path: &Path) -> Result<libloading::Library, String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: NVIDIA's libraries may be initialised at any time; they are never unloaded.
    let opened = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
    opened.map(Into::into).map_err(|error| error.to_string())
}

#[cfg(not(unix))]
fn open(path: &Path) -> Result<libloading::Library, String> {
    // SAFETY: as above.
    unsafe { libloading::Library::new(path) }.map_err(|error| error.to_string())
}

/// A function of `library`.
///
/// # Safety
///
/// `F` must be the function pointer type of that symbol, and the library must never be unloaded.
unsafe fn symbol<F: Copy>(library: &libloading::Library, name: &str) -> Result<F, String> {
    // SAFETY: the caller vouches for `F`.
    unsafe { library.get::<F>(name) }.map(|found| *found).map_err(|error| error.to_string())
}

impl Library {
    /// Loads the libraries and looks every function up.
    ///
    /// # Errors
    ///
    /// The loader's message.
    pub fn open(files: &Files) -> Result<Library, String> {
        if let Some(builtins) = &files.builtins {
            std::mem::forget(open(builtins)?);
        }
        let library = std::mem::ManuallyDrop::new(open(&files.nvrtc)?);
        // SAFETY: the types are those of `nvrtc.h`, and `ManuallyDrop` keeps the library loaded. `nvrtcVersion` writes
        // two ints.
        unsafe {
            let get = |size: &str, bytes: &str| Ok::<_, String>((symbol(&library, size)?, symbol(&library, bytes)?));
            let version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status = symbol(&library, "nvrtcVersion")?;
            let (mut major, mut minor) = (0, 0);
            if version(&mut major, &mut minor) != 0 {
                return Err("nvrtcVersion failed".to_owned());
            }
            Ok(Library {
                path: files.nvrtc.clone(),
                version: (major, minor),
                error_string: symbol(&library, "nvrtcGetErrorString")?,
                create: symbol(&library, "nvrtcCreateProgram")?,
                destroy: symbol(&library, "nvrtcDestroyProgram")?,
                compile: symbol(&library, "nvrtcCompileProgram")?,
                ptx: get("nvrtcGetPTXSize", "nvrtcGetPTX")?,
                cubin: get("nvrtcGetCUBINSize", "nvrtcGetCUBIN")?,
                log: get("nvrtcGetProgramLogSize", "nvrtcGetProgramLog")?,
            })
        }
    }

    pub fn version(&self) -> (i32, i32) {
        self.version
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn compile(&self, source: &Source<'_>) -> Result<Compiled, CompileError> {
        let program = Program::new(self, source)?;
        let arch = format!("--gpu-architecture={}", source.arch);
        let options: Vec<&str> = std::iter::once(arch.as_str()).chain(source.options.iter().copied()).collect();
        let options = Strings::new("option", &options)?;
        // SAFETY: the program lives, and `options` holds that many strings for the time of the call.
        let status = unsafe { (self.compile)(program.handle, options.len(), options.pointers.as_ptr()) };
        let log = program.text(self.log).unwrap_or_default();
        let failed = |status| CompileError { status: self.describe(status), log: log.clone() };
        if status != 0 {
            return Err(failed(status));
        }
        let ptx = program.text(self.ptx).map_err(failed)?;
        let cubin = program.bytes(self.cubin).map_err(failed)?;
        Ok(Compiled { ptx, cubin, log })
    }

    /// NVRTC's name for a status.
    fn describe(&self, status: Status) -> String {
        // SAFETY: any value is accepted; the answer is a constant string, or null.
        let name = unsafe { (self.error_string)(status) };
        if name.is_null() {
            return format!("status {status}");
        }
        // SAFETY: not null, hence a NUL-terminated constant.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    }
}

/// A program of NVRTC's, destroyed when dropped.
struct Program<'a> {
    library: &'a Library,
    handle: Handle,
}

impl Program<'_> {
    fn new<'a>(library: &'a Library, source: &Source<'_>) -> Result<Program<'a>, CompileError> {
        let (text, name) = (string("source", source.text)?, string("name", source.name)?);
        let (names, texts): (Vec<&str>, Vec<&str>) = source.headers.iter().copied().unzip();
        let (names, texts) = (Strings::new("header's name", &names)?, Strings::new("header", &texts)?);
        let mut handle = null_mut();
        // SAFETY: all strings are NUL-terminated and outlive the call, which copies them; both lists have `texts.len()`
        // entries.
        let status = unsafe {
            (library.create)(
                &mut handle,
                text.as_ptr(),
                name.as_ptr(),
                texts.len(),
                texts.pointers.as_ptr(),
                names.pointers.as_ptr(),
            )
        };
        match status {
            0 => Ok(Program { library, handle }),
            _ => Err(CompileError { status: library.describe(status), log: String::new() }),
        }
    }

    /// What one pair of NVRTC's functions returns, first its size, then its bytes.
    fn bytes(&self, (size, get): (GetSize, GetBytes)) -> Result<Vec<u8>, Status> {
        let mut len = 0;
        // SAFETY: the program lives; `len` is written.
        match unsafe { size(self.handle, &mut len) } {
            0 => {}
            status => return Err(status),
        }
        let mut bytes = vec![0u8; len];
        if len > 0 {
            // SAFETY: NVRTC writes exactly the number of bytes that it just returned.
            match unsafe { get(self.handle, bytes.as_mut_ptr().cast()) } {
                0 => {}
                status => return Err(status),
            }
        }
        Ok(bytes)
    }

    /// The same for text, which ends in a NUL.
    fn text(&self, functions: (GetSize, GetBytes)) -> Result<String, Status> {
        let mut bytes = self.bytes(functions)?;
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // SAFETY: created by the same library and destroyed once.
        unsafe { (self.library.destroy)(&mut self.handle) };
    }
}

/// Strings as C takes them: an array of pointers, valid as long as this lives.
struct Strings {
    _owned: Vec<CString>,
    pointers: Vec<*const c_char>,
    len: c_int,
}

impl Strings {
    fn new(what: &str, strings: &[&str]) -> Result<Strings, CompileError> {
        let owned = strings.iter().map(|text| string(what, text)).collect::<Result<Vec<_>, _>>()?;
        let len = c_int::try_from(owned.len()).map_err(|_| refused(format!("too many of {what}")))?;
        // Moving a `CString` does not move its bytes. The closing null keeps the array's pointer valid when it is
        // empty.
        let pointers = owned.iter().map(|text| text.as_ptr()).chain([null()]).collect();
        Ok(Strings { _owned: owned, pointers, len })
    }

    fn len(&self) -> c_int {
        self.len
    }
}

fn string(what: &str, text: &str) -> Result<CString, CompileError> {
    CString::new(text).map_err(|error| refused(format!("the {what} has a NUL at byte {}", error.nul_position())))
}

fn refused(status: String) -> CompileError {
    CompileError { status, log: String::new() }
}
