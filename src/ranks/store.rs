//! Values by their keys that all ranks of a run see, at rank 0: what those that no MPI has started find one another by, and what the
//! runtime of an accelerator agrees on its devices by.
//!
//! Before: a [`Meeting`]. After: [`super::stored`] exchanges what the host agrees on, and `xla` hands the runtime its three functions.
//!
//! **Invariant:** nothing waits for a rank that is gone: who does is told which it is, and so is who waits for nothing, by
//! [`Joining::lost`].

use std::collections::HashMap;
use std::io::{self, BufReader, ErrorKind};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::launched::Meeting;
use super::server::{SILENCE, Server};
use super::wire::{Answer, EXCHANGED, Frame, Greeting, KEY, Kind, VALUE, parts};

/// How often a rank says that it is there.
pub const PULSE: Duration = Duration::from_secs(5);
/// Between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(100);
/// How long rank 0 waits for others that are to end before it does.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long rank 0's machine has to answer at all.
const CONNECT: Duration = Duration::from_secs(10);

/// A rank as it joins.
#[derive(Debug, Clone)]
pub struct Joining {
    pub rank: usize,
    pub count: usize,
    /// How long others have to come.
    pub patience: Duration,
    /// Called by a thread of the store, once, where a rank is gone: this process cannot go on.
    pub lost: fn(&StoreError) -> !,
}

/// Why the ranks of a run do not meet, or one of them cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error(
        "rank 0 cannot serve at {address}: {reason} (help: MASTER_PORT names a port of its machine that is free, MASTER_ADDR the machine)"
    )]
    Serve { address: String, reason: String },
    #[error(
        "rank 0 is not found at {address} within {seconds} s: {reason} (help: MASTER_ADDR and MASTER_PORT say where rank 0's machine is \
         reached, alike on all)"
    )]
    Unreachable { address: String, seconds: u64, reason: String },
    #[error(
        "{address} answers, and is no store of cmaec (help: another program listens there: MASTER_PORT names a port that is free)"
    )]
    Foreign { address: String },
    #[error(
        "{address} is where another run meets, or another version of cmaec (help: MASTER_PORT names a port of this run's own)"
    )]
    OtherRun { address: String },
    #[error("a rank {rank} is at {address} already (help: RANK counts from 0, a number for each process)")]
    Taken { address: String, rank: usize },
    #[error("{address} is where {there} ranks meet, this is one of {here} (help: WORLD_SIZE is the same on all)")]
    Count { address: String, there: usize, here: usize },
    #[error("{} within {seconds} s (help: all are started by one launcher, with the same MASTER_ADDR and MASTER_PORT)", missing(ranks, *count))]
    Missing { ranks: Vec<usize>, count: usize, seconds: u64 },
    #[error("rank {rank} of {count} is gone: its process has ended without a word")]
    Gone { rank: usize, count: usize },
    #[error("rank {rank} of {count} is gone: nothing was heard of it for {} s", SILENCE.as_secs())]
    Silent { rank: usize, count: usize },
    #[error("rank {rank} of {count} has ended all, and has said why")]
    Ended { rank: usize, count: usize },
    #[error("there is no value of `{key}` within {milliseconds} ms")]
    Timeout { key: String, milliseconds: u128 },
    #[error("there is a value of `{key}` already")]
    Exists { key: String },
    #[error("{what} of {len} bytes is longer than the {most} that the store takes")]
    TooLong { what: &'static str, len: usize, most: usize },
    #[error("the store at rank 0 is full")]
    Full,
    #[error("internal error: one process by itself has no store")]
    Alone,
    #[error("internal error: ranks exchange different things at turn {turn}")]
    Differ { turn: u64 },
}

/// `rank 3 of 4 has not come`.
fn missing(ranks: &[usize], count: usize) -> String {
    let some: Vec<String> = ranks.iter().take(8).map(ToString::to_string).collect();
    match ranks.len() {
        1 => format!("rank {} of {count} has not come", some[0]),
        many => {
            format!("{many} of {count} ranks have not come, {}{}", some.join(", "), if many > 8 { ", …" } else { "" })
        }
    }
}

/// A rank's way to the store; on rank 0 the store itself, too.
pub struct Store {
    shared: Arc<Shared>,
    next: AtomicU64,
}

struct Shared {
    rank: usize,
    count: usize,
    lost: fn(&StoreError) -> !,
    server: Option<Server>,
    to: Mutex<TcpStream>,
    state: Mutex<State>,
    answered: Condvar,
}

#[derive(Default)]
struct State {
    /// What was asked for, and is answered where it was.
    asked: HashMap<u64, Option<Frame>>,
    lost: Option<StoreError>,
    /// This rank leaves: whatever happens from now on is no loss.
    leaves: bool,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store(rank {} of {})", self.shared.rank, self.shared.count)
    }
}

/// Where all addresses of a machine are listened to, or its own alone where ranks meet at that.
fn listener(meeting: &Meeting) -> io::Result<TcpListener> {
    let of_host = (meeting.host.as_str(), meeting.port).to_socket_addrs()?;
    let of_host: Vec<SocketAddr> = of_host.collect();
    if !of_host.is_empty() && of_host.iter().all(|address| address.ip().is_loopback()) {
        return TcpListener::bind(&of_host[..]);
    }
    // What the machine is called outside need not be an address of its own, as in a cluster of containers.
    let any = [IpAddr::from(Ipv6Addr::UNSPECIFIED), IpAddr::from([0, 0, 0, 0])];
    TcpListener::bind(&any.map(|ip| SocketAddr::new(ip, meeting.port))[..])
}

impl Store {
    /// Joins the others at `meeting`, where rank 0 serves; all have come when this gives a store.
    pub fn join(meeting: &Meeting, joining: &Joining) -> Result<Store, StoreError> {
        let Joining { rank, count, patience, lost } = *joining;
        let address = format!("{}:{}", meeting.host, meeting.port);
        let run = blake3::hash(format!("{} {}", env!("CARGO_PKG_VERSION"), meeting.run).as_bytes()).into();
        let end = Instant::now() + patience;
        let mut server = None;
        if rank == 0 {
            let failed = |error: io::Error| StoreError::Serve { address: address.clone(), reason: error.to_string() };
            let listener = listener(meeting).map_err(failed)?;
            server = Some(Server::start(listener, count, run).map_err(failed)?);
        }
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let greeting = Greeting { rank: number(rank), count: number(count), run };
        let stream = connect(meeting, &address, &greeting, end, patience)?;
        let failed = |error: io::Error| StoreError::Unreachable {
            address: address.clone(),
            seconds: patience.as_secs(),
            reason: error.to_string(),
        };
        let from = stream.try_clone().map_err(failed)?;
        let (to, state) = (Mutex::new(stream), Mutex::default());
        let shared = Arc::new(Shared { rank, count, lost, server, to, state, answered: Condvar::new() });
        let (hears, beats) = (shared.clone(), Arc::downgrade(&shared));
        spawn("store", move || hears.hear(from)).map_err(failed)?;
        spawn("store pulse", move || beat(&beats)).map_err(failed)?;
        let store = Store { shared, next: AtomicU64::new(0) };
        if let Some(server) = &store.shared.server
            && let Err(ranks) = server.all_come(end.saturating_duration_since(Instant::now()))
        {
            // Those that have come wait for them no longer.
            store.end_all();
            return Err(StoreError::Missing { ranks, count, seconds: patience.as_secs() });
        }
        // Rank 0 knows for how long; where it has given up, it is gone.
        store.exchange(Kind::Give, "met", &[])?;
        Ok(store)
    }

    /// Keeps a value by a key that has none.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let answer = self.ask(Kind::Put, key, value, None)?;
        match answer.kind {
            Kind::Exists => Err(StoreError::Exists { key: key.to_owned() }),
            Kind::Nothing => Ok(()),
            _ => Err(StoreError::Full),
        }
    }

    /// The value of a key as soon as it has one, for at most `patience`.
    pub fn get(&self, key: &str, patience: Duration) -> Result<Vec<u8>, StoreError> {
        let answer = self.ask(Kind::Get, key, &[], Some(patience))?;
        if answer.kind == Kind::Value { Ok(answer.value) } else { Err(StoreError::Full) }
    }

    /// The value of a key, if it has one now.
    pub fn try_get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let answer = self.ask(Kind::TryGet, key, &[], None)?;
        Ok((answer.kind == Kind::Value).then_some(answer.value))
    }

    /// What every rank has given at this turn, in their order: all come here with another turn each time. At most
    /// [`Store::at_once`] bytes; what was given is not kept.
    pub fn exchanged(&self, turn: u64, own: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
        let answer = self.exchange(Kind::Exchange, &turn.to_string(), own)?;
        let parts = parts(&answer.value, self.shared.count).ok_or(StoreError::Differ { turn })?;
        Ok(parts.into_iter().map(<[u8]>::to_vec).collect())
    }

    /// The same for who does not want to know what the others have given.
    pub fn give(&self, turn: u64, own: &[u8]) -> Result<(), StoreError> {
        self.exchange(Kind::Give, &turn.to_string(), own).map(drop)
    }

    /// Bytes that a rank may give to an exchange.
    pub fn at_once(&self) -> usize {
        VALUE.min(EXCHANGED / self.shared.count)
    }

    pub fn rank(&self) -> usize {
        self.shared.rank
    }

    pub fn count(&self) -> usize {
        self.shared.count
    }

    /// Tells the others that this rank, which has said why, ends them all.
    pub fn end_all(&self) {
        self.shared.state().leaves = true;
        drop(self.shared.send(Kind::EndAll, 0, &[], &[]));
        self.shared.let_others_hear();
    }

    fn exchange(&self, kind: Kind, key: &str, own: &[u8]) -> Result<Frame, StoreError> {
        let answer = self.ask(kind, key, own, None)?;
        match answer.kind {
            Kind::Value | Kind::Nothing => Ok(answer),
            _ => Err(StoreError::Differ { turn: key.parse().unwrap_or(0) }),
        }
    }

    /// Waits for an answer: for ever without `patience`, for a rank that is gone ends it.
    fn ask(&self, kind: Kind, key: &str, value: &[u8], patience: Option<Duration>) -> Result<Frame, StoreError> {
        for (what, len, most) in [("a key", key.len(), KEY), ("a value", value.len(), VALUE)] {
            if len > most {
                return Err(StoreError::TooLong { what, len, most });
            }
        }
        let (shared, id) = (&*self.shared, self.next.fetch_add(1, Ordering::Relaxed));
        shared.state().asked.insert(id, None);
        if shared.send(kind, id, key.as_bytes(), value).is_err() {
            // Who hears the connection finds it broken, and says whose fault it is.
            shared.state().asked.remove(&id);
            return Err(shared.wait_for_loss());
        }
        let end = patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut state = shared.state();
        loop {
            if let Some(answer) = state.asked.get_mut(&id).and_then(Option::take) {
                state.asked.remove(&id);
                return Ok(answer);
            }
            if let Some(lost) = state.lost.clone() {
                state.asked.remove(&id);
                return Err(lost);
            }
            let left = end.map_or(SILENCE, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                state.asked.remove(&id);
                drop(state);
                drop(shared.send(Kind::Cancel, id, &[], &[]));
                let milliseconds = patience.unwrap_or_default().as_millis();
                return Err(StoreError::Timeout { key: key.to_owned(), milliseconds });
            }
            state = shared.answered.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Store {
    /// Goes, having done its part: rank 0 when all others have. Nothing is asked for behind this.
    pub fn leave(&self) {
        let has_lost = {
            let mut state = self.shared.state();
            if std::mem::replace(&mut state.leaves, true) {
                return;
            }
            state.lost.is_some()
        };
        drop(self.shared.send(Kind::Leave, 0, &[], &[]));
        if let Some(server) = &self.shared.server {
            server.others_left(has_lost.then_some(Duration::ZERO));
            server.close();
        }
        // Ends the thread that hears it.
        drop(self.shared.to().shutdown(std::net::Shutdown::Both));
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// Says that this rank is there as long as it is.
fn beat(shared: &Weak<Shared>) {
    loop {
        thread::sleep(PULSE);
        let Some(shared) = shared.upgrade() else { return };
        if shared.send(Kind::Ping, 0, &[], &[]).is_err() {
            return;
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn to(&self) -> MutexGuard<'_, TcpStream> {
        self.to.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, kind: Kind, id: u64, key: &[u8], value: &[u8]) -> io::Result<()> {
        Frame::send(&mut *self.to(), kind, id, key, value)
    }

    /// To the end of the connection.
    fn hear(&self, from: TcpStream) {
        let (mut from, count) = (BufReader::new(from), self.count);
        let lost = loop {
            let frame = match Frame::receive(&mut from) {
                Ok(frame) => frame,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    break StoreError::Silent { rank: 0, count };
                }
                Err(_) => break StoreError::Gone { rank: 0, count },
            };
            let rank = usize::try_from(frame.id).unwrap_or(usize::MAX);
            match frame.kind {
                Kind::Gone => break StoreError::Gone { rank, count },
                Kind::Silent => break StoreError::Silent { rank, count },
                Kind::Ended => break StoreError::Ended { rank, count },
                _ => {
                    // Nobody waits for a pulse's answer, or any longer for one that came late.
                    if let Some(answer) = self.state().asked.get_mut(&frame.id).filter(|_| frame.kind != Kind::Pong) {
                        *answer = Some(frame);
                        self.answered.notify_all();
                    }
                }
            }
        };
        let leaves = self.state().leaves;
        if !leaves {
            self.let_others_hear();
        }
        self.state().lost = Some(lost.clone());
        self.answered.notify_all();
        if !leaves {
            (self.lost)(&lost)
        }
    }

    /// With rank 0's process the store ends: first the others are told why, and end.
    fn let_others_hear(&self) {
        if let Some(server) = &self.server {
            server.others_left(Some(FAREWELL));
        }
    }

    /// What ended a connection that has broken.
    fn wait_for_loss(&self) -> StoreError {
        let end = Instant::now() + PULSE;
        let mut state = self.state();
        while state.lost.is_none() && Instant::now() < end {
            state = self.answered.wait_timeout(state, AGAIN).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.lost.clone().unwrap_or(StoreError::Gone { rank: 0, count: self.count })
    }
}

/// A connection to rank 0 that is welcome there.
fn connect(
    meeting: &Meeting,
    address: &str,
    greeting: &Greeting,
    end: Instant,
    patience: Duration,
) -> Result<TcpStream, StoreError> {
    loop {
        let reason = match attempt(meeting, address, greeting) {
            Ok(stream) => return Ok(stream),
            Err(Refused::ForGood(error)) => return Err(error),
            Err(Refused::Now(reason)) => reason,
        };
        if Instant::now() >= end {
            return Err(StoreError::Unreachable { address: address.to_owned(), seconds: patience.as_secs(), reason });
        }
        thread::sleep(AGAIN);
    }
}

enum Refused {
    ForGood(StoreError),
    /// Rank 0 may come later, as a name of a machine may.
    Now(String),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Refused::Now(error.to_string())
    }
}

fn attempt(meeting: &Meeting, address: &str, greeting: &Greeting) -> Result<TcpStream, Refused> {
    let mut refused = Refused::Now("its name has no address".to_owned());
    for of_host in (meeting.host.as_str(), meeting.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&of_host, CONNECT) {
            Ok(stream) => return greet(stream, address, greeting),
            Err(error) => refused = error.into(),
        }
    }
    Err(refused)
}

fn greet(mut stream: TcpStream, address: &str, greeting: &Greeting) -> Result<TcpStream, Refused> {
    let (there, address) = ("it ends the connection".to_owned(), address.to_owned());
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(CONNECT))?;
    greeting.send(&mut stream)?;
    let (rank, here) = (greeting.rank as usize, greeting.count as usize);
    let refused = match Answer::receive(&mut stream) {
        Ok(Answer::Welcome) => {
            stream.set_read_timeout(Some(SILENCE))?;
            stream.set_write_timeout(Some(SILENCE))?;
            return Ok(stream);
        }
        Ok(Answer::OtherRun) => StoreError::OtherRun { address },
        Ok(Answer::Taken) => StoreError::Taken { address, rank },
        Ok(Answer::Count(there)) => StoreError::Count { address, there: there as usize, here },
        Err(error) if error.kind() == ErrorKind::InvalidData => StoreError::Foreign { address },
        // Who does not know how ranks greet waits for more, or hangs up; so does a rank 0 that is just starting, or ending.
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            StoreError::Foreign { address }
        }
        Err(_) => return Err(Refused::Now(there)),
    };
    Err(Refused::ForGood(refused))
}
