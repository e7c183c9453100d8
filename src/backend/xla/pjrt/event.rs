//! What a plugin has begun and will end: a transfer, a computation.
#![allow(unsafe_code, reason = "foreign code is called")]

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::api::Api;
use super::client::Client;
use super::error::PjrtError;
use super::table::{self, Args, EventAwait, EventDestroy, EventIsReady, EventOnReady};

/// How long [`Ending::at`] waits for a plugin that has ended what was begun and does not say so.
const PATIENCE: Duration = Duration::from_secs(1);

pub struct Event {
    client: Client,
    raw: NonNull<table::Event>,
}

// SAFETY: an event may be asked and waited for from any thread; PJRT's objects lock what they share.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// # Safety
    /// `raw` is an event of this client's plugin, ours to end.
    pub unsafe fn new(client: &Client, raw: NonNull<table::Event>) -> Self {
        Event { client: client.clone(), raw }
    }

    /// Until it is over; an error of what was begun is given here.
    pub fn wait(&self) -> Result<(), PjrtError> {
        let mut args = EventAwait { event: self.raw.as_ptr(), ..EventAwait::new() };
        // SAFETY: the event is alive.
        unsafe { self.client.api().call(&mut args) }
    }

    pub fn is_over(&self) -> Result<bool, PjrtError> {
        let mut args = EventIsReady { event: self.raw.as_ptr(), ..EventIsReady::new() };
        // SAFETY: the event is alive.
        unsafe { self.client.api().call(&mut args)? };
        Ok(args.is_ready != 0)
    }

    /// Has the plugin note the time when it is over, whoever looks, and whether or not it ends well.
    pub fn ending(self) -> Result<Ending, PjrtError> {
        let (tell, told) = sync_channel(1);
        let noted = Box::into_raw(Box::new(Note { api: self.client.api(), tell }));
        let mut args = EventOnReady {
            event: self.raw.as_ptr(),
            callback: Some(note),
            user_arg: noted.cast(),
            ..EventOnReady::new()
        };
        // SAFETY: the event is alive; the plugin calls `note` once, with what was boxed for it.
        if let Err(error) = unsafe { self.client.api().call(&mut args) } {
            // SAFETY: a plugin that refuses calls nobody, so the box is still ours.
            drop(unsafe { Box::from_raw(noted) });
            return Err(error);
        }
        Ok(Ending { _event: self, told })
    }
}

/// The time at which something will be over.
pub struct Ending {
    _event: Event,
    told: Receiver<Instant>,
}

impl Ending {
    /// When it was; for who knows that it is. `None` from a plugin that does not say so.
    pub fn at(&self) -> Option<Instant> {
        // The plugin tells those who wait and those who are called in an order of its own.
        self.told.recv_timeout(PATIENCE).ok()
    }
}

/// What a plugin has in hand while it is asked to note a time.
struct Note {
    api: Api,
    tell: SyncSender<Instant>,
}

/// Called by a thread of the plugin.
///
/// # Safety
/// `noted` is a boxed [`Note`], given away; `error` is null, or an error of its plugin that is ours to free.
unsafe extern "C" fn note(error: *mut table::Error, noted: *mut c_void) {
    let now = Instant::now();
    // SAFETY: as the caller says.
    let Note { api, tell } = *unsafe { Box::from_raw(noted.cast::<Note>()) };
    if let Some(error) = NonNull::new(error) {
        // Who reads the results is given it.
        drop(api.error(EventOnReady::NAME, error));
    }
    // Who asked may be gone. There is room for the one time that is told, so nothing waits.
    let _ = tell.try_send(now);
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event is ours, and nobody has it from here on; its client is alive.
        unsafe { self.client.api().end(&mut EventDestroy { event: self.raw.as_ptr(), ..EventDestroy::new() }) }
    }
}
