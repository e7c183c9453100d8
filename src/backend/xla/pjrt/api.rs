//! One call: from a struct of arguments to a result, with the plugin's error as ours.
#![allow(unsafe_code, reason = "functions of foreign code are called through a table of pointers")]

use std::ffi::c_char;
use std::ptr::{NonNull, from_mut};

use super::error::{Code, PjrtError};
use super::table::{Args, Error, ErrorDestroy, ErrorGetCode, ErrorMessage, Head};
use super::version::Version;

/// A plugin's table of functions.
#[derive(Clone, Copy)]
pub struct Api {
    head: NonNull<Head>,
}

// SAFETY: the table is constant and lives as long as the process, since plugins are never unloaded; PJRT's functions may be
// called from any thread, and its objects lock what they share.
unsafe impl Send for Api {}
// SAFETY: as above.
unsafe impl Sync for Api {}

impl Api {
    /// # Safety
    /// `head` begins a table of the C API, which lives as long as the process and is as long as it says.
    pub unsafe fn new(head: NonNull<Head>) -> Self {
        Api { head }
    }

    fn head(&self) -> &Head {
        // SAFETY: what `new` asks for.
        unsafe { self.head.as_ref() }
    }

    pub fn version(&self) -> Version {
        Version { major: self.head().version.major, minor: self.head().version.minor }
    }

    /// The function that takes `A`.
    fn function<A: Args, F: Copy>(&self) -> Result<F, PjrtError> {
        const { assert!(size_of::<F>() == size_of::<usize>()) };
        let missing = PjrtError::Missing { function: A::NAME, version: self.version() };
        let at = size_of::<Head>() + A::AT * size_of::<usize>();
        if at + size_of::<usize>() > self.head().struct_size {
            return Err(missing);
        }
        // SAFETY: the place lies within the table, as was looked at, and holds a function pointer or null, for which
        // `Option<F>` is the type: `F` is a function pointer wherever this is called.
        let function = unsafe { self.head.cast::<u8>().add(at).cast::<Option<F>>().read() };
        function.ok_or(missing)
    }

    /// Calls the function that takes `A`.
    ///
    /// # Safety
    /// What `args` points to is there for as long as the function uses it, and handles in it are alive.
    pub unsafe fn call<A: Args>(&self, args: &mut A) -> Result<(), PjrtError> {
        let function: unsafe extern "C" fn(*mut A) -> *mut Error = self.function::<A, _>()?;
        // SAFETY: the function at `A::AT` takes this struct, and the caller vouches for what it points to.
        let error = unsafe { function(from_mut(args)) };
        match NonNull::new(error) {
            None => Ok(()),
            Some(error) => Err(self.error(A::NAME, error)),
        }
    }

    /// As [`Api::call`], of a function that ends what its struct names: there is nobody to tell where that fails.
    ///
    /// # Safety
    /// As [`Api::call`]; what is ended is not used again.
    pub unsafe fn end<A: Args>(&self, args: &mut A) {
        // SAFETY: as the caller says.
        let _ = unsafe { self.call(args) };
    }

    /// An error of the plugin in its own words; it is freed.
    ///
    /// The error is one of this plugin, ours to free.
    pub(super) fn error(&self, function: &'static str, error: NonNull<Error>) -> PjrtError {
        let mut message = ErrorMessage { error: error.as_ptr(), ..ErrorMessage::new() };
        let mut code = ErrorGetCode { error: error.as_ptr(), ..ErrorGetCode::new() };
        let mut gone = ErrorDestroy { error: error.as_ptr(), ..ErrorDestroy::new() };
        // SAFETY: the error is alive until `gone` ends it; its message lives as long as it and is copied before. These two
        // functions give nothing back.
        unsafe {
            if let Ok(of) = self.function::<ErrorMessage, unsafe extern "C" fn(*mut ErrorMessage)>() {
                of(from_mut(&mut message));
            }
            // An error of this call stays: asking for its message would ask for its code again.
            if let Ok(of) = self.function::<ErrorGetCode, unsafe extern "C" fn(*mut ErrorGetCode) -> *mut Error>() {
                of(from_mut(&mut code));
            }
            let message = text(message.message, message.message_size);
            if let Ok(of) = self.function::<ErrorDestroy, unsafe extern "C" fn(*mut ErrorDestroy)>() {
                of(from_mut(&mut gone));
            }
            PjrtError::Plugin { function, code: Code::of(code.code), message: message.trim().to_owned() }
        }
    }
}

/// A copy of a plugin's text; what is not UTF-8 in it is replaced.
///
/// # Safety
/// `bytes` is null or has `len` bytes.
pub unsafe fn text(bytes: *const c_char, len: usize) -> String {
    // SAFETY: as the caller says.
    String::from_utf8_lossy(unsafe { list(bytes.cast::<u8>(), len) }).into_owned()
}

/// A plugin's list, which may be null where it is empty.
///
/// # Safety
/// `first` is null or begins `len` values that live as long as `'a`.
pub unsafe fn list<'a, T>(first: *const T, len: usize) -> &'a [T] {
    if first.is_null() || !first.is_aligned() || len == 0 {
        return &[];
    }
    // SAFETY: as the caller says; it is neither null nor misaligned.
    unsafe { std::slice::from_raw_parts(first, len) }
}
