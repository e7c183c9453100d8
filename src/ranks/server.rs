//! The store that rank 0 serves: values by their keys, and exchanges among all ranks.
//!
//! Before: a socket that listens. After: each rank's connection has a thread that hears it and one that answers it.
//!
//! **Invariant:** who waits for something is answered, or told which rank is gone: a connection that ends without a word is a rank
//! that has died, and one that is silent for [`SILENCE`] is taken for that.
//!
//! **Invariant:** what an exchange holds is forgotten once all ranks have given their part, and what is put is bounded by [`ROOM`].

use std::collections::HashMap;
use std::io::{self, BufReader, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::wire::{Answer, EXCHANGED, Frame, Greeting, Kind, VALUE, joined};

/// How long a rank may say nothing: it says every [`super::store::PULSE`] that it is there.
pub const SILENCE: Duration = Duration::from_secs(60);
/// Between two looks for who comes.
const LOOK: Duration = Duration::from_millis(20);
/// How long who connects has for its greeting.
const GREETING: Duration = Duration::from_secs(10);
/// Bytes of keys and values that are kept.
const ROOM: usize = 1 << 30;
/// What a key takes beside its bytes.
const ENTRY: usize = 64;
/// Questions of a rank that wait for their answer.
const WAITING: usize = 1 << 12;
/// Threads' stacks: they hold no more than a frame's head.
const STACK: usize = 256 << 10;

/// The store of rank 0's process; copies are the same.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

struct Shared {
    run: [u8; 32],
    state: Mutex<State>,
    /// A rank has come, or has gone.
    moved: Condvar,
}

struct State {
    /// Nobody may come any more.
    closed: bool,
    ranks: Vec<Place>,
    /// Ranks that ended otherwise than by leaving, and how.
    ended: Vec<(Kind, usize)>,
    values: HashMap<Vec<u8>, Arc<Vec<u8>>>,
    /// Bytes of `values`.
    taken: usize,
    waiting: HashMap<Vec<u8>, Vec<(usize, u64)>>,
    turns: HashMap<Vec<u8>, Turn>,
}

/// What there is of a rank.
enum Place {
    Empty,
    There {
        answers: Sender<Reply>,
        waits: usize,
    },
    /// It has left, or is gone.
    Over,
}

/// An exchange that not all ranks have given their part to.
struct Turn {
    parts: Vec<Option<Vec<u8>>>,
    /// Who waits for all of them, for which answer, and whether for the parts themselves.
    waiting: Vec<(usize, u64, bool)>,
}

struct Reply {
    kind: Kind,
    id: u64,
    value: Arc<Vec<u8>>,
}

impl Server {
    /// Serves `count` ranks of the run that `run` tells from others.
    pub fn start(listener: TcpListener, count: usize, run: [u8; 32]) -> io::Result<Server> {
        let state = State {
            closed: false,
            ranks: (0..count).map(|_| Place::Empty).collect(),
            ended: Vec::new(),
            values: HashMap::new(),
            taken: 0,
            waiting: HashMap::new(),
            turns: HashMap::new(),
        };
        let shared = Arc::new(Shared { run, state: Mutex::new(state), moved: Condvar::new() });
        // Looked at again and again: no call of the standard library ends one that waits.
        listener.set_nonblocking(true)?;
        let own = shared.clone();
        spawn("store", move || {
            while !own.state().closed {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let shared = own.clone();
                        // Where no thread can be had, who connects finds the connection closed.
                        drop(spawn("store rank", move || shared.serve(stream)));
                    }
                    // Nobody is there, or there are too many open files: those that have come go on.
                    Err(_) => thread::sleep(LOOK),
                }
            }
        })?;
        Ok(Server(shared))
    }

    /// Waits until all ranks have come; else gives those that have not.
    pub fn all_come(&self, patience: Duration) -> Result<(), Vec<usize>> {
        let is_empty = |state: &State| state.ranks.iter().any(|place| matches!(place, Place::Empty));
        let missing = self.0.wait_while(Some(patience), is_empty);
        match missing {
            None => Ok(()),
            Some(state) => {
                let empty = state.ranks.iter().enumerate().filter(|(_, place)| matches!(place, Place::Empty));
                Err(empty.map(|(rank, _)| rank).collect())
            }
        }
    }

    /// Waits until all other ranks that had come have left, or are gone, for ever or for a while.
    pub fn others_left(&self, patience: Option<Duration>) {
        let is_there = |state: &State| state.ranks.iter().skip(1).any(|place| matches!(place, Place::There { .. }));
        drop(self.0.wait_while(patience, is_there));
    }

    /// Hears nobody any more who has not come.
    pub fn close(&self) {
        self.0.state().closed = true;
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(work).map(drop)
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` once `condition` no longer holds; else the state after `patience`.
    fn wait_while(
        &self,
        patience: Option<Duration>,
        condition: impl Fn(&State) -> bool,
    ) -> Option<MutexGuard<'_, State>> {
        let end = patience.map(|patience| Instant::now() + patience);
        let mut state = self.state();
        while condition(&state) {
            let left = end.map_or(SILENCE, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Some(state);
            }
            state = self.moved.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }

    /// From a greeting to the end of the connection.
    fn serve(self: Arc<Self>, stream: TcpStream) {
        let set = stream.set_nonblocking(false).and_then(|()| stream.set_nodelay(true));
        let set = set.and_then(|()| stream.set_read_timeout(Some(GREETING)));
        let (Ok(()), Ok(mut to)) = (set, stream.try_clone()) else { return };
        let mut from = BufReader::new(stream);
        // Who is no rank is sent away without a word, and nobody waits for it.
        let Ok(greeting) = Greeting::receive(&mut from) else { return };
        let timeouts =
            from.get_ref().set_read_timeout(Some(SILENCE)).and_then(|()| to.set_write_timeout(Some(SILENCE)));
        if timeouts.is_err() {
            return;
        }
        let rank = greeting.rank as usize;
        let answers = match self.take_in(&greeting) {
            Ok(answers) => answers,
            Err(refusal) => return drop(refusal.send(&mut to)),
        };
        if Answer::Welcome.send(&mut to).is_err() || spawn("store answers", move || answer(to, answers)).is_err() {
            return self.over(rank, Some(Kind::Gone));
        }
        let end = loop {
            match Frame::receive(&mut from) {
                Ok(frame) => match self.hear(rank, frame) {
                    Ok(()) => {}
                    Err(end) => break end,
                },
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    break Some(Kind::Silent);
                }
                Err(_) => break Some(Kind::Gone),
            }
        };
        self.over(rank, end);
    }

    fn take_in(&self, greeting: &Greeting) -> Result<Receiver<Reply>, Answer> {
        let mut state = self.state();
        let count = state.ranks.len();
        if greeting.run != self.run {
            return Err(Answer::OtherRun);
        }
        if greeting.count as usize != count {
            return Err(Answer::Count(u32::try_from(count).unwrap_or(u32::MAX)));
        }
        match state.ranks.get_mut(greeting.rank as usize) {
            Some(place @ Place::Empty) => {
                let (answers, receiver) = channel();
                *place = Place::There { answers, waits: 0 };
                // Who comes late would wait for ever for those that are gone already.
                for (kind, gone) in state.ended.clone() {
                    state.reply(greeting.rank as usize, kind, gone as u64, Arc::default());
                }
                self.moved.notify_all();
                Ok(receiver)
            }
            _ => Err(Answer::Taken),
        }
    }

    /// A rank is there no more; `told` says of it what the others are told, if anything.
    fn over(&self, rank: usize, told: Option<Kind>) {
        let mut state = self.state();
        state.ranks[rank] = Place::Over;
        if let Some(kind) = told {
            state.ended.push((kind, rank));
            for other in 0..state.ranks.len() {
                state.reply(other, kind, rank as u64, Arc::default());
            }
        }
        self.moved.notify_all();
    }

    /// What a rank says; an error is the end of its connection, with what to tell the others.
    fn hear(&self, rank: usize, frame: Frame) -> Result<(), Option<Kind>> {
        let Frame { kind, id, key, value } = frame;
        let mut state = self.state();
        match kind {
            Kind::Put => {
                let room = key.len() + value.len() + ENTRY;
                let answer = if state.values.contains_key(&key) {
                    Kind::Exists
                } else if value.len() > VALUE {
                    Kind::Wrong
                } else if state.taken + room > ROOM {
                    Kind::Full
                } else {
                    state.put(key, value, room);
                    Kind::Nothing
                };
                state.reply(rank, answer, id, Arc::default());
            }
            Kind::Get | Kind::TryGet => match state.values.get(&key).cloned() {
                Some(value) => state.reply(rank, Kind::Value, id, value),
                None if kind == Kind::TryGet => state.reply(rank, Kind::Nothing, id, Arc::default()),
                None if state.begin_waiting(rank) => state.waiting.entry(key).or_default().push((rank, id)),
                None => state.reply(rank, Kind::Full, id, Arc::default()),
            },
            Kind::Cancel => {
                let before: usize = state.waiting.values().map(Vec::len).sum();
                state.waiting.retain(|_, waiting| {
                    waiting.retain(|waits| *waits != (rank, id));
                    !waiting.is_empty()
                });
                let after: usize = state.waiting.values().map(Vec::len).sum();
                (after..before).for_each(|_| state.end_waiting(rank));
            }
            Kind::Exchange | Kind::Give => {
                if !state.give(key, value, (rank, id, kind == Kind::Exchange)) {
                    state.reply(rank, Kind::Wrong, id, Arc::default());
                }
            }
            Kind::Ping => state.reply(rank, Kind::Pong, id, Arc::default()),
            Kind::Leave => return Err(None),
            Kind::EndAll => return Err(Some(Kind::Ended)),
            // A rank that answers questions is none of ours.
            _ => return Err(Some(Kind::Gone)),
        }
        Ok(())
    }
}

impl State {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>, room: usize) {
        let value = Arc::new(value);
        for (rank, id) in self.waiting.remove(&key).unwrap_or_default() {
            self.end_waiting(rank);
            self.reply(rank, Kind::Value, id, value.clone());
        }
        self.taken += room;
        self.values.insert(key, value);
    }

    /// A rank's part of an exchange, which is answered where this is the last one; whether it can be one.
    fn give(&mut self, key: Vec<u8>, value: Vec<u8>, waits: (usize, u64, bool)) -> bool {
        let (rank, count) = (waits.0, self.ranks.len());
        let empty = || Turn { parts: vec![None; count], waiting: Vec::new() };
        let mut turn = self.turns.remove(&key).unwrap_or_else(empty);
        let can_be = turn.parts[rank].is_none() && value.len() <= EXCHANGED / count;
        if can_be {
            turn.parts[rank] = Some(value);
            turn.waiting.push(waits);
        }
        if turn.parts.iter().any(Option::is_none) {
            self.turns.insert(key, turn);
            return can_be;
        }
        let parts: Vec<Vec<u8>> = turn.parts.into_iter().flatten().collect();
        let all = Arc::new(joined(&parts));
        for (rank, id, wants) in turn.waiting {
            match wants {
                true => self.reply(rank, Kind::Value, id, all.clone()),
                false => self.reply(rank, Kind::Nothing, id, Arc::default()),
            }
        }
        can_be
    }

    /// Whether a rank may have one more question that waits.
    fn begin_waiting(&mut self, rank: usize) -> bool {
        match &mut self.ranks[rank] {
            Place::There { waits, .. } if *waits < WAITING => {
                *waits += 1;
                true
            }
            _ => false,
        }
    }

    fn end_waiting(&mut self, rank: usize) {
        if let Place::There { waits, .. } = &mut self.ranks[rank] {
            *waits = waits.saturating_sub(1);
        }
    }

    fn reply(&self, rank: usize, kind: Kind, id: u64, value: Arc<Vec<u8>>) {
        if let Some(Place::There { answers, .. }) = self.ranks.get(rank) {
            // Where its thread has ended, the connection has, and who hears it says so.
            drop(answers.send(Reply { kind, id, value }));
        }
    }
}

/// Sends answers until the rank is gone.
fn answer(mut to: TcpStream, answers: Receiver<Reply>) {
    for Reply { kind, id, value } in answers {
        if Frame::send(&mut to, kind, id, &[], &value).is_err() {
            // Ends who hears it, too.
            drop(to.shutdown(std::net::Shutdown::Both));
            return;
        }
    }
}
