//! Tensors on a device, and their way there and back.
#![allow(unsafe_code, reason = "foreign code is called, and numbers are looked at as bytes")]

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use half::bf16;

use super::api::list;
use super::client::{Client, null_of};
use super::error::PjrtError;
use super::event::Event;
use super::table::{
    self, BufferDelete, BufferDestroy, BufferDimensions, BufferElementType, BufferIsDeleted, BufferOnDeviceSize,
    BufferReadyEvent, BufferToHostBuffer, BufferUnsafePointer, ClientBufferFromHostBuffer,
};

/// What a tensor holds; the numbers are the C API's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum ElementType {
    /// A byte each: 0 or 1.
    Pred = 1,
    S32 = 4,
    S64 = 5,
    U8 = 6,
    F32 = 11,
    F64 = 12,
    Bf16 = 13,
}

impl ElementType {
    const ALL: [ElementType; 7] = [
        ElementType::Pred,
        ElementType::S32,
        ElementType::S64,
        ElementType::U8,
        ElementType::F32,
        ElementType::F64,
        ElementType::Bf16,
    ];

    /// As StableHLO spells it.
    pub fn name(self) -> &'static str {
        match self {
            ElementType::Pred => "i1",
            ElementType::S32 => "i32",
            ElementType::S64 => "i64",
            ElementType::U8 => "ui8",
            ElementType::F32 => "f32",
            ElementType::F64 => "f64",
            ElementType::Bf16 => "bf16",
        }
    }

    /// Bytes of one.
    pub fn size(self) -> usize {
        match self {
            ElementType::Pred | ElementType::U8 => 1,
            ElementType::Bf16 => 2,
            ElementType::S32 | ElementType::F32 => 4,
            ElementType::S64 | ElementType::F64 => 8,
        }
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A number that a tensor on the host holds: any bytes are one, and it has no others.
pub trait HostElement: Copy + Default + Send + Sync + sealed::Sealed + 'static {
    const TYPE: ElementType;
}

macro_rules! host_elements {
    ($($element:ty => $ty:ident,)*) => {
        $(
            impl sealed::Sealed for $element {}
            impl HostElement for $element {
                const TYPE: ElementType = ElementType::$ty;
            }
        )*
    };
}

host_elements! { f32 => F32, f64 => F64, i64 => S64, i32 => S32, u8 => U8, bf16 => Bf16, }

pub(super) fn bytes<T: HostElement>(values: &[T]) -> &[u8] {
    // SAFETY: only the types above are `HostElement`: plain numbers without padding. A byte needs no alignment.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

fn bytes_mut<T: HostElement>(values: &mut [T]) -> &mut [u8] {
    // SAFETY: as in `bytes`; and any bytes are numbers of these types.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}

/// Numbers on the host that stay where they are while their owner is moved, and that nobody writes while it is held.
pub trait HostMemory: Send + sealed::Sealed + 'static {
    const TYPE: ElementType;
    fn bytes(&self) -> &[u8];
}

macro_rules! host_memory {
    ($($owner:ty)*) => {
        $(
            impl<T: HostElement> sealed::Sealed for $owner {}
            impl<T: HostElement> HostMemory for $owner {
                const TYPE: ElementType = T::TYPE;
                fn bytes(&self) -> &[u8] {
                    bytes(&self[..])
                }
            }
        )*
    };
}

host_memory! { Vec<T> Box<[T]> Arc<[T]> Arc<Vec<T>> }

/// A tensor on a device. It may be passed on before it is ready: the plugin orders what is done with it.
pub struct Buffer {
    client: Client,
    device: usize,
    raw: NonNull<table::Buffer>,
}

// SAFETY: a buffer may be used from any thread: PJRT's objects lock what they share.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.element_type(), self.shape()) {
            (Ok(element), Ok(shape)) => write!(f, "Buffer({}{shape:?})", element.name()),
            _ => write!(f, "Buffer(?)"),
        }
    }
}

impl Client {
    /// Puts a dense row-major tensor on a device (which counts from 0) and waits until it is there.
    pub fn upload(
        &self,
        device: usize,
        element: ElementType,
        shape: &[usize],
        bytes: &[u8],
    ) -> Result<Buffer, PjrtError> {
        Buffer::upload(self, device, element, shape, bytes)
    }

    /// [`Client::upload`] numbers.
    pub fn upload_values<T: HostElement>(
        &self,
        device: usize,
        shape: &[usize],
        values: &[T],
    ) -> Result<Buffer, PjrtError> {
        Buffer::upload(self, device, T::TYPE, shape, bytes(values))
    }

    /// Begins to put a tensor on a device; `data` is kept until it is there, and given back by [`Upload::wait`].
    pub fn start_upload<T: HostMemory>(&self, device: usize, shape: &[usize], data: T) -> Result<Upload<T>, PjrtError> {
        Upload::start(self, device, shape, data)
    }
}

impl Buffer {
    /// # Safety
    /// `raw` is a buffer of this client, ours to free.
    pub(super) unsafe fn new(client: &Client, device: usize, raw: NonNull<table::Buffer>) -> Self {
        Buffer { client: client.clone(), device, raw }
    }

    pub(super) fn upload(
        client: &Client,
        device: usize,
        element: ElementType,
        shape: &[usize],
        bytes: &[u8],
    ) -> Result<Self, PjrtError> {
        // SAFETY: `bytes` are borrowed until the transfer is over, which is waited for here.
        let (buffer, done) = unsafe { start(client, device, element, shape, bytes)? };
        done.wait()?;
        Ok(buffer)
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Its place among the client's devices.
    pub fn device(&self) -> usize {
        self.device
    }

    pub(super) fn raw(&self) -> *mut table::Buffer {
        self.raw.as_ptr()
    }

    pub fn element_type(&self) -> Result<ElementType, PjrtError> {
        let mut args = BufferElementType { buffer: self.raw(), ..BufferElementType::new() };
        // SAFETY: the buffer is alive.
        unsafe { self.client.api().call(&mut args)? };
        let known = ElementType::ALL.into_iter().find(|element| *element as i32 == args.element);
        known.ok_or(PjrtError::Odd {
            function: "PJRT_Buffer_ElementType",
            what: "an element type that was not asked for",
        })
    }

    pub fn shape(&self) -> Result<Vec<usize>, PjrtError> {
        let mut args = BufferDimensions { buffer: self.raw(), ..BufferDimensions::new() };
        // SAFETY: the buffer is alive, and its dims live as long as it.
        let dims = unsafe {
            self.client.api().call(&mut args)?;
            list(args.dims, args.num_dims)
        };
        Ok(dims.iter().map(|dim| usize::try_from(*dim).unwrap_or(0)).collect())
    }

    /// Bytes of the tensor on the host, dense.
    pub fn size(&self) -> Result<usize, PjrtError> {
        let mut args = BufferToHostBuffer { buffer: self.raw(), ..BufferToHostBuffer::new() };
        // SAFETY: the buffer is alive; without a place to copy to, the size is told and nothing copied.
        unsafe { self.client.api().call(&mut args)? };
        if let Some(event) = NonNull::new(args.event) {
            // SAFETY: an event that was given is ours to end.
            drop(unsafe { Event::new(&self.client, event) });
        }
        Ok(args.to_size)
    }

    /// Bytes that it takes on the device, with what its layout adds there.
    pub fn size_on_device(&self) -> Result<usize, PjrtError> {
        let mut args = BufferOnDeviceSize { buffer: self.raw(), ..BufferOnDeviceSize::new() };
        // SAFETY: the buffer is alive.
        unsafe { self.client.api().call(&mut args)? };
        Ok(args.bytes)
    }

    /// Waits until what computes it is over; an error of that computation is given here.
    pub fn wait(&self) -> Result<(), PjrtError> {
        self.ready()?.wait()
    }

    /// When what computes it is over.
    pub fn ready(&self) -> Result<Event, PjrtError> {
        let mut args = BufferReadyEvent { buffer: self.raw(), ..BufferReadyEvent::new() };
        // SAFETY: the buffer is alive.
        unsafe { self.client.api().call(&mut args)? };
        let raw = NonNull::new(args.event).ok_or_else(null_of::<BufferReadyEvent>)?;
        // SAFETY: the event is ours to end.
        Ok(unsafe { Event::new(&self.client, raw) })
    }

    /// Copies it, row-major, to `to`, which has [`Buffer::size`] bytes; waits for what computes it.
    pub fn read_into(&self, to: &mut [u8]) -> Result<(), PjrtError> {
        let expected = self.size()?;
        if expected != to.len() {
            let (element, shape) = (self.element_type()?.name(), self.shape()?);
            return Err(PjrtError::Length { element, shape, expected, found: to.len() });
        }
        let mut args = BufferToHostBuffer {
            buffer: self.raw(),
            to: to.as_mut_ptr().cast(),
            to_size: to.len(),
            ..BufferToHostBuffer::new()
        };
        // SAFETY: `to` is ours alone and as long as the plugin asks for; the end of the copy is waited for. Without a layout
        // the buffer's own is taken, which is row-major for uploads and results: no program here asks for another.
        unsafe {
            self.client.api().call(&mut args)?;
            let raw = NonNull::new(args.event).ok_or_else(null_of::<BufferToHostBuffer>)?;
            Event::new(&self.client, raw).wait()
        }
    }

    /// [`Buffer::read_into`] numbers of its type.
    pub fn read_values<T: HostElement>(&self, to: &mut [T]) -> Result<(), PjrtError> {
        let found = self.element_type()?;
        if found != T::TYPE {
            return Err(PjrtError::Element { expected: T::TYPE.name(), found: found.name() });
        }
        self.read_into(bytes_mut(to))
    }

    /// All its numbers.
    pub fn read<T: HostElement>(&self) -> Result<Vec<T>, PjrtError> {
        let mut values = vec![T::default(); self.shape()?.iter().product()];
        self.read_values(&mut values)?;
        Ok(values)
    }

    /// Frees its memory on the device at once, where waiting for `Drop` would be too late.
    pub fn delete(&self) -> Result<(), PjrtError> {
        // SAFETY: the buffer is alive; a deleted one is still freed by `Drop`.
        unsafe { self.client.api().call(&mut BufferDelete { buffer: self.raw(), ..BufferDelete::new() }) }
    }

    /// Whether it was deleted, or donated to a program whose result has its memory now.
    pub fn is_deleted(&self) -> Result<bool, PjrtError> {
        let mut args = BufferIsDeleted { buffer: self.raw(), ..BufferIsDeleted::new() };
        // SAFETY: the buffer is alive.
        unsafe { self.client.api().call(&mut args)? };
        Ok(args.is_deleted != 0)
    }

    /// Where it lies on its device: tells whether a result has an argument's memory.
    pub fn address(&self) -> Result<usize, PjrtError> {
        let mut args = BufferUnsafePointer { buffer: self.raw(), ..BufferUnsafePointer::new() };
        // SAFETY: the buffer is alive; what is given is only looked at as a number.
        unsafe { self.client.api().call(&mut args)? };
        Ok(args.address)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the buffer is ours, and nobody has it from here on; its client is alive.
        unsafe { self.client.api().end(&mut BufferDestroy { buffer: self.raw(), ..BufferDestroy::new() }) }
    }
}

/// A tensor on its way to a device, with the host's memory that it is read from. Dropping it waits, too.
#[must_use = "dropping it waits for the transfer and frees the buffer"]
pub struct Upload<T: HostMemory> {
    // Owned, not borrowed: where an upload is forgotten, the memory that the plugin reads is forgotten with it.
    parts: Option<(Buffer, T)>,
    done: Event,
}

impl<T: HostMemory> Upload<T> {
    pub(super) fn start(client: &Client, device: usize, shape: &[usize], data: T) -> Result<Self, PjrtError> {
        // SAFETY: `data` is held until the transfer is over, and its memory stays where it is.
        let (buffer, done) = unsafe { start(client, device, T::TYPE, shape, data.bytes())? };
        Ok(Upload { parts: Some((buffer, data)), done })
    }

    /// To pass it on before it has arrived: the plugin orders what is done with it.
    pub fn buffer(&self) -> &Buffer {
        let (buffer, _) = self.parts.as_ref().expect("only `wait` takes it, and the upload with it");
        buffer
    }

    /// Whether [`Upload::wait`] would answer at once.
    pub fn has_arrived(&self) -> Result<bool, PjrtError> {
        self.done.is_over()
    }

    /// Waits until the host's memory is free again, and gives both.
    pub fn wait(mut self) -> Result<(Buffer, T), PjrtError> {
        self.done.wait()?;
        Ok(self.parts.take().expect("only this takes it"))
    }
}

impl<T: HostMemory> Drop for Upload<T> {
    fn drop(&mut self) {
        if self.parts.is_some() {
            // After an error, too, the memory is not read any more.
            let _ = self.done.wait();
        }
    }
}

/// Begins a transfer.
///
/// # Safety
/// `bytes` stay where they are and are not written until the event has come.
unsafe fn start(
    client: &Client,
    device: usize,
    element: ElementType,
    shape: &[usize],
    bytes: &[u8],
) -> Result<(Buffer, Event), PjrtError> {
    /// The memory is not written until the transfer is over; the plugin may read it until then, and never after.
    const IMMUTABLE_UNTIL_TRANSFERRED: i32 = 1;
    let expected = shape.iter().try_fold(element.size(), |bytes, dim| bytes.checked_mul(*dim));
    if expected != Some(bytes.len()) {
        return Err(PjrtError::Length {
            element: element.name(),
            shape: shape.to_vec(),
            expected: expected.unwrap_or(usize::MAX),
            found: bytes.len(),
        });
    }
    let dims: Vec<i64> = shape.iter().map(|dim| i64::try_from(*dim).unwrap_or(i64::MAX)).collect();
    let mut args = ClientBufferFromHostBuffer {
        client: client.raw(),
        data: bytes.as_ptr().cast(),
        element: element as i32,
        dims: dims.as_ptr(),
        num_dims: dims.len(),
        semantics: IMMUTABLE_UNTIL_TRANSFERRED,
        device: client.device(device)?,
        ..ClientBufferFromHostBuffer::new()
    };
    // SAFETY: the client is alive, dims are copied in the call, and the bytes are as many as element type and shape say.
    unsafe {
        client.api().call(&mut args)?;
        let buffer = NonNull::new(args.buffer).map(|raw| Buffer::new(client, device, raw));
        let done = NonNull::new(args.done_with_host_buffer).map(|raw| Event::new(client, raw));
        buffer.zip(done).ok_or_else(null_of::<ClientBufferFromHostBuffer>)
    }
}
