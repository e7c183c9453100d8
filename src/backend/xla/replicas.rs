//! A program's tensors and slots on each of the devices of this process that run it, one for each of its ranks here.
//!
//! Before: values on the host. After: [`super::session`] passes a replica's to the program on its device, which gives them back
//! changed.
//!
//! **Invariant:** every replica holds the same bytes: all begin with the same, and each step is the same on all. Slots that are shared
//! out are one replica's each, a part of every tensor's.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::lower::TensorType;
use super::pjrt::{Buffer, Client, ElementType, PjrtError};
use super::values::{Number, upload_input};
use crate::backend::BackendError;
use crate::graph::{Layout, Program, TensorDecl};
use crate::ranks::Ranks;
use crate::tensor::{Element, Inputs};

/// What one device holds.
pub struct Replica {
    /// In the order of the layout.
    pub tensors: Vec<Buffer>,
    /// Slot after slot, one for each trained tensor; none before a step, or a checkpoint, needs them.
    pub slots: Vec<Buffer>,
}

/// Replica for replica, on the client's first devices.
pub struct Replicas {
    client: Client,
    /// Which of the program's replicas they are: those of this process's devices.
    own: Range<usize>,
    /// In how many parts slots lie.
    shards: usize,
    each: Vec<Replica>,
}

impl Replicas {
    /// All tensors of the program's layout on a device for each of its `own` ranks, and no slots.
    pub fn new<E: Number>(
        client: &Client,
        program: &Program,
        own: Range<usize>,
        tensors: &[E],
    ) -> Result<Self, BackendError> {
        let layout = &program.layout;
        let tensors = on_each(own.len(), |device| upload_all(client, device, layout, tensors))?;
        let each = tensors.into_iter().map(|tensors| Replica { tensors, slots: Vec::new() }).collect();
        Ok(Replicas { client: client.clone(), own, shards: program.shards(), each })
    }

    /// Replica for replica.
    pub fn each(&self) -> &[Replica] {
        &self.each
    }

    /// That of the first device, which speaks for all.
    pub fn first(&self) -> &Replica {
        &self.each[0]
    }

    /// Puts tensors, laid out by the layout, in the place of those that are there.
    pub fn put_tensors<E: Number>(&mut self, layout: &Layout, tensors: &[E]) -> Result<(), BackendError> {
        let made = on_each(self.each.len(), |device| upload_all(&self.client, device, layout, tensors))?;
        self.each.iter_mut().zip(made).for_each(|(replica, tensors)| replica.tensors = tensors);
        Ok(())
    }

    /// Whether there are slots, or none are needed.
    pub fn has_slots(&self, count: usize, layout: &Layout) -> bool {
        self.first().slots.len() == count * layout.trained()
    }

    /// Puts slots in the place of those that are there, `layout.trained_len` values each.
    pub fn put_slots<E: Number>(&mut self, layout: &Layout, slots: &[Vec<E>]) -> Result<(), BackendError> {
        let trained = &layout.tensors[..layout.trained()];
        let made = on_each(self.each.len(), |device| {
            let of_slot = |slot| trained.iter().enumerate().map(move |(index, decl)| (slot, index, decl));
            let one = |(slot, index, decl): (&Vec<E>, usize, &TensorDecl)| {
                let values = &slot[layout.range(index)];
                if self.shards == 1 {
                    return Ok(self.client.upload_values(device, &decl.shape, values)?);
                }
                let own = decl.elements().div_ceil(self.shards);
                let rank = self.own.start + device;
                let there = &values[values.len().min(rank * own)..values.len().min((rank + 1) * own)];
                let mut part = vec![E::ZERO; own];
                part[..there.len()].copy_from_slice(there);
                Ok(self.client.upload_values(device, &[own], &part)?)
            };
            slots.iter().flat_map(of_slot).map(one).collect::<Result<Vec<Buffer>, BackendError>>()
        })?;
        self.each.iter_mut().zip(made).for_each(|(replica, slots)| replica.slots = slots);
        Ok(())
    }

    /// Takes what a run of the program has made of the tensors and slots that were donated to it: of each device's results the first,
    /// in their order. Gives the others.
    pub fn take(&mut self, results: Vec<Vec<Buffer>>) -> Vec<Vec<Buffer>> {
        let one = |(replica, results): (&mut Replica, Vec<Buffer>)| {
            let mut results = results.into_iter();
            replica.tensors = results.by_ref().take(replica.tensors.len()).collect();
            replica.slots = results.by_ref().take(replica.slots.len()).collect();
            results.collect()
        };
        self.each.iter_mut().zip(results).map(one).collect()
    }

    /// Tensors by the layout, as the first device has them.
    pub fn tensors<E: Number>(&self, layout: &Layout) -> Result<Vec<E>, BackendError> {
        filled(&self.first().tensors, layout, layout.total_len)
    }

    /// Each slot, put together where it is shared out, over the processes too: all of `ranks` come here.
    pub fn slots<E: Number>(&self, layout: &Layout, ranks: &dyn Ranks) -> Result<Vec<Vec<E>>, BackendError> {
        let (first, trained) = (self.first(), layout.trained().max(1));
        if self.shards == 1 {
            let slots = first.slots.chunks(trained).map(|slot| filled(slot, layout, layout.trained_len));
            return slots.collect();
        }
        let mut slots = vec![vec![E::ZERO; layout.trained_len]; first.slots.len() / trained];
        for (device, replica) in self.each.iter().enumerate() {
            for (place, buffer) in replica.slots.iter().enumerate() {
                let to = &mut slots[place / trained][layout.range(place % trained)];
                let (part, rank): (Vec<E>, usize) = (buffer.read()?, self.own.start + device);
                let own = of_shard(to.len(), part.len(), rank);
                to[own.clone()].copy_from_slice(&part[..own.len()]);
            }
        }
        let tensors: Vec<Range<usize>> = (0..layout.trained()).map(|index| layout.range(index)).collect();
        slots.iter_mut().for_each(|slot| put_together(slot, &tensors, self.own.len(), ranks));
        Ok(slots)
    }

    /// The first device that does not hold the bytes of the first one, and the place of a tensor, or behind them all of a slot's,
    /// that differs there.
    pub fn differing(&self) -> Result<Option<(usize, usize)>, BackendError> {
        let bytes = |buffer: &Buffer| -> Result<Vec<u8>, PjrtError> {
            let mut bytes = vec![0; buffer.size()?];
            buffer.read_into(&mut bytes)?;
            Ok(bytes)
        };
        let all = |replica: &Replica| -> Result<Vec<Vec<u8>>, PjrtError> {
            let shared: &[Buffer] = if self.shards == 1 { &replica.slots } else { &[] };
            replica.tensors.iter().chain(shared).map(bytes).collect()
        };
        let first = all(self.first())?;
        for (device, replica) in self.each.iter().enumerate().skip(1) {
            if let Some(place) = all(replica)?.iter().zip(&first).position(|(own, first)| own != first) {
                return Ok(Some((device, place)));
            }
        }
        Ok(None)
    }
}

/// Values that are sent at once.
const SENT: usize = 1 << 22;

/// The values of `len` that are the part of `rank`, where each has `part` of them as far as they go.
fn of_shard(len: usize, part: usize, rank: usize) -> Range<usize> {
    len.min(rank * part)..len.min((rank + 1) * part)
}

/// Fills a slot, of which each process has its own parts, of `of_each` shards, of every tensor, with those of all.
fn put_together<E: Element>(slot: &mut [E], tensors: &[Range<usize>], of_each: usize, ranks: &dyn Ranks) {
    let processes = if ranks.count() == 1 { 0..0 } else { 0..ranks.count() };
    for process in processes {
        let own = |tensor: &Range<usize>| {
            let shard = tensor.len().div_ceil(of_each * ranks.count());
            // The shards of its ranks lie behind one another.
            let own = of_shard(tensor.len(), shard * of_each, process);
            tensor.start + own.start..tensor.start + own.end
        };
        let parts: Vec<Range<usize>> = tensors.iter().map(own).collect();
        let mut sent: Vec<E> = parts.iter().flat_map(|part| slot[part.clone()].iter().copied()).collect();
        sent.chunks_mut(SENT).for_each(|sent| ranks.broadcast(process, E::values_mut(sent)));
        let mut from = &sent[..];
        for part in parts {
            let (own, rest) = from.split_at(part.len());
            slot[part].copy_from_slice(own);
            from = rest;
        }
    }
}

/// The first `len` values of the layout, as buffers have them tensor by tensor.
fn filled<E: Number>(buffers: &[Buffer], layout: &Layout, len: usize) -> Result<Vec<E>, BackendError> {
    let mut values = vec![E::ZERO; len];
    for (index, buffer) in buffers.iter().enumerate() {
        buffer.read_values(&mut values[layout.range(index)])?;
    }
    Ok(values)
}

/// What `make` makes for each of `count` devices, all at once: each has a way of its own to the host.
pub fn on_each<T: Send>(
    count: usize,
    make: impl Fn(usize) -> Result<T, BackendError> + Sync + Send,
) -> Result<Vec<T>, BackendError> {
    match count {
        1 => Ok(vec![make(0)?]),
        _ => (0..count).into_par_iter().map(&make).collect(),
    }
}

/// What fills `types`, by name, on each of so many devices: its rank's own rows of those that `inputs` brings, which are the rows of
/// all of them, and what is the same for all.
pub fn upload_own_rows<E: Number>(
    client: &Client,
    devices: usize,
    types: &[(String, TensorType)],
    inputs: Inputs<'_>,
) -> Result<Vec<Vec<Buffer>>, BackendError> {
    on_each(devices, |device| {
        let own = if devices == 1 { inputs } else { inputs.of_micro(device) };
        types.iter().map(|(name, ty)| upload_input::<E>(client, device, name, ty, own)).collect()
    })
}

/// What the first step hangs on, on each device.
pub fn truth(client: &Client, devices: usize) -> Result<Arc<Vec<Buffer>>, BackendError> {
    let made = (0..devices).map(|device| client.upload(device, ElementType::Pred, &[], &[1]));
    Ok(Arc::new(made.collect::<Result<_, _>>()?))
}

/// All tensors of the layout, on a device.
fn upload_all<E: Number>(
    client: &Client,
    device: usize,
    layout: &Layout,
    tensors: &[E],
) -> Result<Vec<Buffer>, BackendError> {
    assert_eq!(tensors.len(), layout.total_len, "tensors are laid out by the program's layout");
    let upload = |(index, decl): (usize, &TensorDecl)| {
        Ok(client.upload_values(device, &decl.shape, &tensors[layout.range(index)])?)
    };
    layout.tensors.iter().enumerate().map(upload).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{of_shard, put_together};
    use crate::ranks::store::{Joining, Store, StoreError};
    use crate::ranks::stored::Stored;
    use crate::ranks::{Meeting, free_port};

    /// Two processes of two devices each have halves of every tensor, of which the last shards are shorter, or none.
    #[test]
    fn what_processes_share_out_is_put_together() {
        fn lost(error: &StoreError) -> ! {
            panic!("{error}")
        }
        let meeting = Meeting { host: "127.0.0.1".to_owned(), port: free_port("127.0.0.1"), run: String::new() };
        let tensors = [0..10, 10..11, 11..17, 20..24];
        let whole: Vec<f32> = (0..24).map(|i| i as f32).collect();
        std::thread::scope(|scope| {
            for rank in 0..2 {
                let (meeting, tensors, whole) = (&meeting, &tensors, &whole);
                scope.spawn(move || {
                    let joining = Joining { rank, count: 2, patience: Duration::from_secs(20), lost };
                    let store = Arc::new(Store::join(meeting, &joining).expect("both come"));
                    let ranks = Stored::new(store, lost).expect("both come");
                    let mut slot = vec![f32::NAN; 24];
                    for tensor in tensors {
                        let shard = tensor.len().div_ceil(4);
                        for own in [2 * rank, 2 * rank + 1].map(|shard_of| of_shard(tensor.len(), shard, shard_of)) {
                            let own = tensor.start + own.start..tensor.start + own.end;
                            slot[own.clone()].copy_from_slice(&whole[own]);
                        }
                    }
                    put_together(&mut slot, tensors, 2, &ranks);
                    assert!(tensors.iter().all(|tensor| slot[tensor.clone()] == whole[tensor.clone()]), "{slot:?}");
                });
            }
        });
    }
}
