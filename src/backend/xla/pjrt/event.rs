//! What a plugin has begun and will end: a transfer, a computation.
#![allow(unsafe_code, reason = "foreign code is called")]

use std::ptr::NonNull;

use super::client::Client;
use super::error::PjrtError;
use super::table::{self, EventAwait, EventDestroy, EventIsReady};

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
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event is ours, and nobody has it from here on; its client is alive.
        unsafe { self.client.api().end(&mut EventDestroy { event: self.raw.as_ptr(), ..EventDestroy::new() }) }
    }
}
