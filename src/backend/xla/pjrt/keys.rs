//! What a client asks for and tells by keys, to agree with those of other processes: three functions of ours that the plugin calls.
//!
//! Before: a store that all processes see. After: the plugin builds one set of devices out of those of all, and the ids of its
//! collectives.
//!
//! **Invariant:** the functions may be called from any thread as long as the client lives, and no panic leaves them: what goes wrong is
//! an error made by the plugin's own function, with a code that it knows.
#![allow(unsafe_code, reason = "foreign code calls these functions")]

use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{from_ref, null_mut, slice_from_raw_parts_mut};
use std::sync::Arc;
use std::time::Duration;

use super::api::{list, text};
use super::error::Code;
use super::table::{ClientCreate, Error, KeyValueGet, KeyValuePut, KeyValueTryGet, MakeError};
use crate::ranks::store::{Store, StoreError};

/// What the three functions are given: as old as the client at least.
#[derive(Debug)]
pub struct Keys(Arc<Store>);

impl Keys {
    /// Lies still where it is: the plugin holds its address.
    pub fn new(store: Arc<Store>) -> Box<Keys> {
        Box::new(Keys(store))
    }

    /// Has a client ask by these.
    pub fn fill(&self, args: &mut ClientCreate) {
        let own = from_ref(self).cast_mut().cast::<c_void>();
        args.kv_get_callback = Some(get);
        args.kv_get_user_arg = own;
        args.kv_put_callback = Some(put);
        args.kv_put_user_arg = own;
        args.kv_try_get_callback = Some(try_get);
        args.kv_try_get_user_arg = own;
    }
}

/// An error as plugins know it.
fn code(error: &StoreError) -> Code {
    match error {
        StoreError::Timeout { .. } => Code::DeadlineExceeded,
        StoreError::Exists { .. } => Code::AlreadyExists,
        StoreError::TooLong { .. } => Code::InvalidArgument,
        StoreError::Full => Code::ResourceExhausted,
        StoreError::Gone { .. } | StoreError::Silent { .. } | StoreError::Ended { .. } => Code::Unavailable,
        _ => Code::Internal,
    }
}

/// Null, or the plugin's error of what went wrong.
///
/// # Safety
/// `make` is null, or where the plugin has its function that makes an error.
unsafe fn told(make: *const MakeError, done: Result<(), (Code, String)>) -> *mut Error {
    let Err((code, message)) = done else { return null_mut() };
    // Nothing can be told to who gives no way to tell it.
    // SAFETY: as the caller says.
    let Some(make) = (unsafe { make.as_ref() }) else { return null_mut() };
    // SAFETY: it is the plugin's; the message is copied before the call is over.
    unsafe { make(code.number(), message.as_ptr().cast::<c_char>(), message.len()) }
}

/// What `work` gives, and an error where it panics.
fn without_panic<T>(work: impl FnOnce() -> Result<T, (Code, String)>) -> Result<T, (Code, String)> {
    let failed = || (Code::Internal, "the store of cmaec failed".to_owned());
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(failed()))
}

fn in_words(error: StoreError) -> (Code, String) {
    (code(&error), error.to_string())
}

/// A value that is the plugin's until it calls [`delete`]: its length stands before it, where only the two of us look.
fn given(value: &[u8]) -> *mut c_char {
    let mut own = Vec::with_capacity(size_of::<usize>() + value.len());
    own.extend(value.len().to_ne_bytes());
    own.extend(value);
    let own = Box::into_raw(own.into_boxed_slice()).cast::<c_char>();
    // SAFETY: the length is a part of what was allocated.
    unsafe { own.add(size_of::<usize>()) }
}

/// # Safety
/// `value` is null, or one of [`given`] that nobody uses from here on.
unsafe extern "C" fn delete(value: *mut c_char) {
    if value.is_null() {
        return;
    }
    // SAFETY: what was allocated begins with the length, which need not be aligned.
    unsafe {
        let own = value.sub(size_of::<usize>()).cast::<u8>();
        let len = own.cast::<usize>().read_unaligned();
        drop(Box::from_raw(slice_from_raw_parts_mut(own, size_of::<usize>() + len)));
    }
}

/// # Safety
/// `args` is null, or as the C API has it; its user argument is a [`Keys`] that lives.
unsafe extern "C" fn get(args: *mut KeyValueGet) -> *mut Error {
    // SAFETY: as the caller says; nobody else uses it meanwhile.
    let Some(args) = (unsafe { args.as_mut() }) else { return null_mut() };
    // SAFETY: as the caller says.
    let (keys, key) = unsafe { (args.user_arg.cast::<Keys>().as_ref(), text(args.key, args.key_size)) };
    let patience = Duration::from_millis(u64::try_from(args.timeout_in_ms).unwrap_or(0));
    let found = without_panic(|| {
        let keys = keys.ok_or((Code::InvalidArgument, "no user argument".to_owned()))?;
        keys.0.get(&key, patience).map_err(in_words)
    });
    let done = found.map(|value| {
        args.value = given(&value);
        args.value_size = value.len();
        args.value_deleter = Some(delete);
    });
    // SAFETY: the plugin gives its own function.
    unsafe { told(args.callback_error, done) }
}

/// # Safety
/// As [`get`].
unsafe extern "C" fn put(args: *mut KeyValuePut) -> *mut Error {
    // SAFETY: as the caller says; nobody else uses it meanwhile.
    let Some(args) = (unsafe { args.as_mut() }) else { return null_mut() };
    // SAFETY: as the caller says.
    let (keys, key, value) = unsafe {
        let value: &[u8] = list(args.value.cast::<u8>(), args.value_size);
        (args.user_arg.cast::<Keys>().as_ref(), text(args.key, args.key_size), value)
    };
    let done = without_panic(|| {
        let keys = keys.ok_or((Code::InvalidArgument, "no user argument".to_owned()))?;
        keys.0.put(&key, value).map_err(in_words)
    });
    // SAFETY: the plugin gives its own function.
    unsafe { told(args.callback_error, done) }
}

/// # Safety
/// As [`get`].
unsafe extern "C" fn try_get(args: *mut KeyValueTryGet) -> *mut Error {
    // SAFETY: as the caller says; nobody else uses it meanwhile.
    let Some(args) = (unsafe { args.as_mut() }) else { return null_mut() };
    // SAFETY: as the caller says.
    let (keys, key) = unsafe { (args.user_arg.cast::<Keys>().as_ref(), text(args.key, args.key_size)) };
    let found = without_panic(|| {
        let keys = keys.ok_or((Code::InvalidArgument, "no user argument".to_owned()))?;
        let found = keys.0.try_get(&key).map_err(in_words)?;
        found.ok_or_else(|| (Code::NotFound, format!("there is no value of `{key}`")))
    });
    let done = found.map(|value| {
        args.value = given(&value);
        args.value_size = value.len();
        args.value_deleter = Some(delete);
    });
    // SAFETY: the plugin gives its own function.
    unsafe { told(args.callback_error, done) }
}

#[cfg(test)]
mod tests {
    use super::super::table::DeleteValue;
    use super::*;
    use crate::ranks::Meeting;
    use crate::ranks::store::Joining;

    /// An error as the fake plugin makes it.
    struct Made(i32, String);

    unsafe extern "C" fn make(code: i32, message: *const c_char, len: usize) -> *mut Error {
        // SAFETY: the message is there while this is called.
        let message = unsafe { text(message, len) };
        Box::into_raw(Box::new(Made(code, message))).cast()
    }

    static MAKE: MakeError = make;

    fn made(error: *mut Error) -> Option<Made> {
        // SAFETY: it is null, or what `make` has boxed.
        (!error.is_null()).then(|| *unsafe { Box::from_raw(error.cast::<Made>()) })
    }

    /// Calls as a plugin that was handed these by `ClientCreate`.
    #[derive(Clone, Copy)]
    struct Plugin<'a>(&'a ClientCreate);

    // SAFETY: the struct is only read.
    unsafe impl Send for Plugin<'_> {}

    impl Plugin<'_> {
        fn put(self, key: &str, value: &[u8]) -> Option<Made> {
            let mut args = KeyValuePut {
                key: key.as_ptr().cast(),
                key_size: key.len(),
                value: value.as_ptr().cast(),
                value_size: value.len(),
                callback_error: &raw const MAKE,
                user_arg: self.0.kv_put_user_arg,
                ..KeyValuePut::new()
            };
            let put = self.0.kv_put_callback.expect("it was handed over");
            // SAFETY: the struct is filled, and the keys live.
            made(unsafe { put(&raw mut args) })
        }

        /// Copies a value as plugins do, and ends ours.
        fn taken(value: *mut c_char, len: usize, deleter: Option<DeleteValue>) -> Vec<u8> {
            // SAFETY: the callback has filled them.
            unsafe {
                let copy = list(value.cast::<u8>(), len).to_vec();
                deleter.expect("a value has one")(value);
                copy
            }
        }

        fn get(self, key: &str, timeout_in_ms: i32) -> Result<Vec<u8>, Made> {
            let mut args = KeyValueGet {
                key: key.as_ptr().cast(),
                key_size: key.len(),
                timeout_in_ms,
                callback_error: &raw const MAKE,
                user_arg: self.0.kv_get_user_arg,
                ..KeyValueGet::new()
            };
            let get = self.0.kv_get_callback.expect("it was handed over");
            // SAFETY: the struct is filled, and the keys live.
            match made(unsafe { get(&raw mut args) }) {
                Some(error) => Err(error),
                None => Ok(Self::taken(args.value, args.value_size, args.value_deleter)),
            }
        }

        fn try_get(self, key: &str) -> Result<Vec<u8>, Made> {
            let mut args = KeyValueTryGet {
                key: key.as_ptr().cast(),
                key_size: key.len(),
                callback_error: &raw const MAKE,
                user_arg: self.0.kv_try_get_user_arg,
                ..KeyValueTryGet::new()
            };
            let get = self.0.kv_try_get_callback.expect("it was handed over");
            // SAFETY: the struct is filled, and the keys live.
            match made(unsafe { get(&raw mut args) }) {
                Some(error) => Err(error),
                None => Ok(Self::taken(args.value, args.value_size, args.value_deleter)),
            }
        }
    }

    fn store() -> Arc<Store> {
        fn lost(error: &StoreError) -> ! {
            panic!("{error}")
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("there are ports");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let meeting = Meeting { host: "127.0.0.1".to_owned(), port, run: String::new() };
        let joining = Joining { rank: 0, count: 1, patience: Duration::from_secs(10), lost };
        Arc::new(Store::join(&meeting, &joining).expect("it is alone"))
    }

    #[test]
    fn a_plugin_is_given_what_it_told_from_any_thread() {
        let keys = Keys::new(store());
        let mut args = ClientCreate::new();
        keys.fill(&mut args);
        let plugin = Plugin(&args);
        let code = |made: Made| (made.0, made.1);
        let missing = plugin.try_get("a").map_err(code);
        assert_eq!(missing, Err((5, "there is no value of `a`".to_owned())));
        let late = plugin.get("a", 50).map_err(code);
        assert_eq!(late, Err((4, "there is no value of `a` within 50 ms".to_owned())));
        std::thread::scope(|scope| {
            let waits = scope.spawn(move || {
                let plugin = plugin;
                plugin.get("a", 10_000).map_err(code)
            });
            let puts = scope.spawn(move || {
                let plugin = plugin;
                plugin.put("a", b"one\0two").map(code)
            });
            assert_eq!(puts.join().expect("it ends"), None);
            assert_eq!(waits.join().expect("it ends").as_deref(), Ok(&b"one\0two"[..]));
        });
        assert_eq!(plugin.put("a", b"other").map(code), Some((6, "there is a value of `a` already".to_owned())));
        assert_eq!(plugin.put("nothing", b"").map(code), None);
        assert_eq!(plugin.try_get("nothing").map_err(code).as_deref(), Ok(&[][..]));
        let long = plugin.put(&"k".repeat(5000), b"").map(code).expect("it is too long");
        assert!(long.0 == 3 && long.1.contains("5000"), "{long:?}");
    }

    /// What a plugin must not do ends nothing.
    #[test]
    fn nulls_and_a_store_that_has_gone_are_errors() {
        let store = store();
        let keys = Keys::new(store.clone());
        let mut args = ClientCreate::new();
        keys.fill(&mut args);
        let get = args.kv_get_callback.expect("it was handed over");
        // SAFETY: null is looked at.
        assert!(unsafe { get(null_mut()) }.is_null());
        args.kv_put_user_arg = null_mut();
        assert_eq!(Plugin(&args).put("a", b"").map(|made| made.0), Some(3));
        keys.fill(&mut args);
        store.leave();
        let gone = Plugin(&args).put("a", b"").expect("nobody is there");
        assert_eq!(gone.0, 14, "{}", gone.1);
    }
}
