//! The adapter's own format.

use crate::adapter::{Adapter, idlora_adapter};
use crate::pointer::{self, Handle, Place};
use crate::status::{Answer, Refusal, answer};
use idlora::adapter::IdLora;
use std::ffi::{CString, c_char};
use std::path::Path;

/// The adapters of a file.
pub struct idlora_list {
    _opaque: (),
}

impl Handle for idlora_list {
    type Value = List;
    const TAG: u64 = 0x6964_6c6f_7261_0005;
    const NAME: &'static str = "idlora_list";
}

pub(crate) struct List(Vec<(CString, IdLora)>);

impl List {
    fn at(&self, index: usize) -> Answer<&(CString, IdLora)> {
        self.0.get(index).ok_or_else(|| {
            let count = self.0.len();
            idlora::Error::Parameter {
                op: "list",
                parameter: "index",
                expected: format!("below {count}, the adapters of the list"),
                found: index.to_string(),
            }
            .into()
        })
    }
}

/// Writes `count` adapters to the folder `directory`, which must not exist (its parent must), as one safetensors file in it. It
/// either is all there at the end or does not exist. Names must differ, and all numbers must be finite.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_save(
    directory: *const c_char,
    adapters: *const *const idlora_adapter,
    count: usize,
) -> i32 {
    answer(|| {
        // SAFETY: header, idlora_save: a text, and as many handles.
        let (directory, handles) =
            unsafe { (pointer::text("directory", directory)?, pointer::elements("adapters", adapters, count)?) };
        let mut all = Vec::with_capacity(count);
        for (place, &handle) in handles.iter().enumerate() {
            // SAFETY: header, idlora_save: each is a handle.
            let adapter = unsafe { pointer::shared(&format!("adapters[{place}]"), handle) }?;
            all.push(adapter.lora.clone());
        }
        Ok(idlora::format::native::save(Path::new(directory), &all)?)
    })
}

/// Reads the adapters of the folder `directory`, in the order in which they were saved.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_load(directory: *const c_char, list: *mut *mut idlora_list) -> i32 {
    answer(|| {
        // SAFETY: header, idlora_load: a text, and a place for a handle.
        let (list, directory) = unsafe { (Place::of_handle("list", list)?, pointer::text("directory", directory)?) };
        let mut adapters = Vec::new();
        for lora in idlora::format::native::load(Path::new(directory))? {
            let nul = |_| Refusal::argument(format!("a module's name has a NUL: {:?}", lora.name()));
            adapters.push((CString::new(lora.name()).map_err(nul)?, lora));
        }
        list.put(pointer::give(List(adapters)));
        Ok(())
    })
}

/// How many adapters a list has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_list_count(list: *const idlora_list, count: *mut usize) -> i32 {
    answer(|| {
        // SAFETY: header, idlora_list_count: `list` is a handle, `count` a place for a number.
        let (list, count) = unsafe { (pointer::shared("list", list)?, Place::at("count", count)?) };
        count.put(list.0.len());
        Ok(())
    })
}

/// The name of adapter `index`, UTF-8: the list's, and good until it is closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_list_name(list: *const idlora_list, index: usize, name: *mut *const c_char) -> i32 {
    answer(|| {
        // SAFETY: header, idlora_list_name: `list` is a handle, `name` a place for a pointer.
        let (list, name) = unsafe { (pointer::shared("list", list)?, Place::at("name", name)?) };
        name.put(list.at(index)?.0.as_ptr());
        Ok(())
    })
}

/// The index of the adapter of module `name`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_list_find(list: *const idlora_list, name: *const c_char, index: *mut usize) -> i32 {
    answer(|| {
        // SAFETY: header, idlora_list_find: `list` is a handle, `name` a text, `index` a place for a number.
        let (list, name, index) =
            unsafe { (pointer::shared("list", list)?, pointer::text("name", name)?, Place::at("index", index)?) };
        let found = list.0.iter().position(|(_, lora)| lora.name() == name);
        index.put(found.ok_or_else(|| absent(list, name))?);
        Ok(())
    })
}

fn absent(list: &List, name: &str) -> Refusal {
    let names: Vec<&str> = list.0.iter().map(|(_, lora)| lora.name()).collect();
    let expected = format!("one of `{}`", names.join("`, `"));
    idlora::Error::Parameter { op: "list", parameter: "name", expected, found: format!("`{name}`") }.into()
}

/// A copy of adapter `index`, which is the caller's to close.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_list_get(
    list: *const idlora_list,
    index: usize,
    adapter: *mut *mut idlora_adapter,
) -> i32 {
    answer(|| {
        // SAFETY: header, idlora_list_get: `list` is a handle, `adapter` a place for one.
        let (adapter, list) = unsafe { (Place::of_handle("adapter", adapter)?, pointer::shared("list", list)?) };
        adapter.put(pointer::give(Adapter::new(list.at(index)?.1.clone())?));
        Ok(())
    })
}

/// Closes a list. Null is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn idlora_list_close(list: *mut idlora_list) -> i32 {
    // SAFETY: header, idlora_list_close: `list` is null or a handle that is not used any more.
    answer(|| unsafe { pointer::close("list", list) })
}
