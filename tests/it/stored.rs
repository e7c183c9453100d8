//! Processes that no MPI has started: they meet at a store that rank 0 serves, exchange what they agree on, and end together.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cmae::ranks::store::{Joining, Store, StoreError};
use cmae::ranks::stored::Stored;
use cmae::ranks::{self, Meeting, Ranks};
use cmae::tensor::{Values, ValuesMut};
use serde_json::Value;

use crate::command::{cmaec, run, succeed};
use crate::runs::{SMALL, text};

/// A place of this machine that nobody meets at.
fn meeting(run: &str) -> Meeting {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there are ports");
    let port = listener.local_addr().expect("it is bound").port();
    Meeting { host: "127.0.0.1".to_owned(), port, run: run.to_owned() }
}

fn lost(error: &StoreError) -> ! {
    panic!("{error}")
}

fn join(meeting: &Meeting, rank: usize, count: usize, patience: u64) -> Result<Store, StoreError> {
    Store::join(meeting, &Joining { rank, count, patience: Duration::from_secs(patience), lost })
}

/// What `work` gives on each of `count` ranks, threads of this process.
fn on_each<T: Send>(count: usize, work: impl Fn(&Store) -> T + Sync) -> Vec<T> {
    let meeting = meeting("");
    thread::scope(|scope| {
        let (meeting, work) = (&meeting, &work);
        let start = |rank| scope.spawn(move || work(&join(meeting, rank, count, 20).expect("all come")));
        let threads: Vec<_> = (0..count).map(start).collect();
        threads.into_iter().map(|thread| thread.join().expect("it ends")).collect()
    })
}

#[test]
fn values_are_kept_by_their_keys() {
    let second = Duration::from_secs(1);
    on_each(3, |store| {
        match store.rank() {
            0 => {
                assert_eq!(store.try_get("a"), Ok(None));
                store.give(1, &[]).expect("all come");
                thread::sleep(Duration::from_millis(100));
                store.put("a", b"1").expect("there is room");
                let found = store.put("a", b"2");
                assert_eq!(found, Err(StoreError::Exists { key: "a".to_owned() }));
            }
            _ => {
                store.give(1, &[]).expect("all come");
                assert_eq!(store.get("a", 20 * second).as_deref(), Ok(&b"1"[..]));
            }
        }
        store.give(2, &[]).expect("all come");
        assert_eq!(store.try_get("a").expect("all are there").as_deref(), Some(&b"1"[..]));
        let start = Instant::now();
        let missing = store.get("b", Duration::from_millis(200));
        assert_eq!(missing, Err(StoreError::Timeout { key: "b".to_owned(), milliseconds: 200 }));
        assert!(start.elapsed() >= Duration::from_millis(200) && start.elapsed() < 10 * second);
        // Many threads ask at once, as a runtime's do, and each is given its own.
        let key = |of: usize, n: usize| format!("{of} {n}");
        thread::scope(|scope| {
            for n in 0..8 {
                scope.spawn(move || {
                    store.put(&key(store.rank(), n), &vec![n as u8; 100_000 * n]).expect("there is room")
                });
                scope.spawn(move || {
                    let found = store.get(&key((store.rank() + 1) % 3, n), 20 * second).expect("it comes");
                    assert_eq!(found, vec![n as u8; 100_000 * n]);
                });
            }
        });
        let long = "k".repeat(5000);
        assert_eq!(store.put(&long, &[]), Err(StoreError::TooLong { what: "a key", len: 5000, most: 4096 }));
        let wide = vec![0; (16 << 20) + 1];
        let refused = store.put("c", &wide);
        assert_eq!(refused, Err(StoreError::TooLong { what: "a value", len: wide.len(), most: 16 << 20 }));
    });
}

/// An engine over the store.
fn engine(store: Store) -> Stored {
    Stored::new(Arc::new(store), lost).expect("all come")
}

fn engines<T: Send>(count: usize, work: impl Fn(&dyn Ranks) -> T + Sync) -> Vec<T> {
    let meeting = meeting("");
    thread::scope(|scope| {
        let (meeting, work) = (&meeting, &work);
        let start = |rank| scope.spawn(move || work(&engine(join(meeting, rank, count, 20).expect("all come"))));
        let threads: Vec<_> = (0..count).map(start).collect();
        threads.into_iter().map(|thread| thread.join().expect("it ends")).collect()
    })
}

#[test]
fn ranks_exchange_what_one_process_would_have() {
    // More than is sent at once, and a number that no piece divides.
    let len = 2_200_001;
    let own = |rank: usize| -> Vec<f64> { (0..len).map(|i| (i as f64 + 0.1) / (rank as f64 + 0.7)).collect() };
    let found = engines(4, |ranks| {
        let rank = ranks.rank();
        assert_eq!((ranks.count(), ranks.local(), ranks.local_rank(), ranks.sums_steps()), (4, 4, rank, false));
        let values = own(rank);
        let (mut sum, mut all) = (vec![0.0; len], vec![0.0; 4 * len]);
        ranks.all_reduce(Values::F64(&values), ValuesMut::F64(&mut sum));
        ranks.all_gather(Values::F64(&values), ValuesMut::F64(&mut all));
        let mut given = if rank == 2 { values } else { vec![0.0; len] };
        ranks.broadcast(2, ValuesMut::F64(&mut given));
        assert_eq!(given, own(2));
        assert_eq!(ranks::text_of_each(ranks, &"x".repeat(rank)), ["", "x", "xx", "xxx"]);
        assert_eq!(ranks::text_of_first(ranks, &format!("of {rank}")), "of 0");
        assert!(ranks::any(ranks, rank == 3) && !ranks::any(ranks, false));
        let mut small = [1.5_f32, 2.0];
        ranks.broadcast(1, ValuesMut::F32(&mut small));
        ranks.all_reduce(Values::F32(&[]), ValuesMut::F32(&mut []));
        (sum, all)
    });
    let parts: Vec<Vec<f64>> = (0..4).map(own).collect();
    let sum: Vec<f64> = (0..len).map(|i| ((parts[0][i] + parts[1][i]) + parts[2][i]) + parts[3][i]).collect();
    assert!(found.iter().all(|(found, all)| *found == sum && *all == parts.concat()));
}

#[test]
fn who_does_not_come_is_named() {
    let meeting = meeting("");
    thread::scope(|scope| {
        let second = scope.spawn(|| join(&meeting, 1, 4, 20).map(drop));
        let first = join(&meeting, 0, 4, 1).map(drop).expect_err("two do not come");
        assert_eq!(first, StoreError::Missing { ranks: vec![2, 3], count: 4, seconds: 1 });
        assert!(first.to_string().starts_with("2 of 4 ranks have not come, 2, 3 within 1 s"), "{first}");
        // Rank 0 has said it, and so nobody else needs to.
        assert_eq!(second.join().expect("it ends"), Err(StoreError::Ended { rank: 0, count: 4 }));
    });
}

#[test]
fn others_at_the_place_are_told_by_what_they_are() {
    let place = meeting("");
    let address = format!("127.0.0.1:{}", place.port);
    let nobody = join(&place, 1, 2, 0).map(drop).expect_err("nobody serves");
    assert!(matches!(nobody, StoreError::Unreachable { .. }), "{nobody}");
    // A web server, and one that hears and says nothing.
    let listener = TcpListener::bind(&address).expect("it was free");
    let busy = join(&place, 0, 2, 1).map(drop).expect_err("the port is taken");
    assert!(matches!(busy, StoreError::Serve { .. }) && busy.to_string().contains("MASTER_PORT names"), "{busy}");
    let web = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("it connects");
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("it is there");
        let mut rest = [0; 256];
        drop(stream.read(&mut rest));
    });
    let foreign = join(&place, 1, 2, 5).map(drop).expect_err("that is no store");
    assert_eq!(foreign, StoreError::Foreign { address: address.clone() });
    web.join().expect("it ends");
    // A store's rank 0 sends away who is none of its own, and goes on.
    thread::scope(|scope| {
        let first = scope.spawn(|| join(&place, 0, 2, 20).and_then(|store| store.give(1, &[])));
        let refused = |meeting: &Meeting, rank, count| {
            let end = Instant::now() + Duration::from_secs(10);
            loop {
                match join(meeting, rank, count, 5).map(drop).expect_err("it is none of its ranks") {
                    StoreError::Unreachable { .. } if Instant::now() < end => {}
                    error => return error,
                }
            }
        };
        let other = Meeting { run: "another".to_owned(), ..place.clone() };
        assert_eq!(refused(&other, 1, 2), StoreError::OtherRun { address: address.clone() });
        assert_eq!(refused(&place, 1, 3), StoreError::Count { address: address.clone(), there: 2, here: 3 });
        assert_eq!(refused(&place, 5, 2), StoreError::Taken { address: address.clone(), rank: 5 });
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: a\r\nAccept: everything that there is\r\n\r\n"[..],
            b"\x16\x03\x01",
            b"",
            &[0xff; 4096],
        ] {
            let mut stream = TcpStream::connect(&address).expect("it serves");
            drop(stream.write_all(bytes));
        }
        let second = join(&place, 1, 2, 20).and_then(|store| store.give(1, &[]));
        assert_eq!((first.join().expect("it ends"), second), (Ok(()), Ok(())));
    });
}

/// Rank 1 of `count`, welcomed at `place`, by hand.
fn greeted(place: &Meeting, count: u32) -> TcpStream {
    let run = blake3::hash(format!("{} ", env!("CARGO_PKG_VERSION")).as_bytes());
    let mut greeting = b"cmaecRK\x01".to_vec();
    greeting.extend(1_u32.to_le_bytes());
    greeting.extend(count.to_le_bytes());
    greeting.extend(run.as_bytes());
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", place.port)) {
            Ok(stream) => break stream,
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    };
    stream.write_all(&greeting).expect("it is there");
    stream.read_exact(&mut [0; 13]).expect("it is answered");
    stream
}

/// Who speaks as a rank should, and then as none does, is a rank that is gone; nothing else happens.
#[test]
fn a_rank_that_speaks_nonsense_is_gone() {
    for nonsense in
        [&[0xff; 64][..], &[255, 255, 255, 255, 1], &[13, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[0; 64]]
    {
        let place = meeting("");
        thread::scope(|scope| {
            let first = scope.spawn(|| {
                let store = join(&place, 0, 2, 20);
                store.map(|store| store.give(1, &[])).expect_err("the other speaks nonsense")
            });
            let mut stream = greeted(&place, 2);
            stream.write_all(nonsense).expect("it is there");
            stream.shutdown(std::net::Shutdown::Write).expect("it is there");
            assert_eq!(first.join().expect("it ends"), StoreError::Gone { rank: 1, count: 2 });
        });
    }
}

/// One that dies before the last has come is told to that one too, which would wait for it for ever.
#[test]
fn who_comes_after_one_has_gone_is_told() {
    let place = meeting("");
    thread::scope(|scope| {
        let first = scope.spawn(|| join(&place, 0, 3, 20).expect_err("the second is gone"));
        drop(greeted(&place, 3));
        // Long enough for the server to have seen it.
        thread::sleep(Duration::from_millis(300));
        let gone = StoreError::Gone { rank: 1, count: 3 };
        assert_eq!(join(&place, 2, 3, 20).expect_err("the second is gone"), gone);
        assert_eq!(first.join().expect("it ends"), gone);
    });
}

/// Ranks that give different lengths at one turn find it, and do not compute with it.
#[test]
fn ranks_that_do_not_come_to_the_same_place_are_told() {
    let found = engines(2, |ranks| {
        let (own, mut sum) = (vec![1; 2 + ranks.rank()], vec![0; 2 + ranks.rank()]);
        let reduce = || ranks.all_reduce(Values::I64(&own), ValuesMut::I64(&mut sum));
        let panic = catch_unwind(AssertUnwindSafe(reduce)).expect_err("lengths differ");
        panic.downcast_ref::<String>().cloned().unwrap_or_default()
    });
    assert!(found.iter().all(|found| found.contains("ranks exchange different things at turn 1")), "{found:?}");
}

/// A rank of [`a_rank_that_dies_ends_all_within_seconds`]: sums as long as it lives.
#[test]
#[ignore = "a process of another test"]
fn one_rank_by_itself() {
    fn told(error: &StoreError) -> ! {
        println!("told: {error}");
        std::process::exit(3)
    }
    let joined = ranks::join(told).expect("the test says where");
    println!("joined");
    for step in 0.. {
        let (own, mut sum) = (vec![step; 1000], vec![0; 1000]);
        joined.ranks.all_reduce(Values::I64(&own), ValuesMut::I64(&mut sum));
        assert_eq!(sum[999], 4 * step);
        // Between steps nobody hears the store: a rank that computes is told all the same.
        if step % 3 == 2 && joined.ranks.rank() == 3 {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Kills of a test's ranks.
const KILLS: u64 = 20;

#[test]
fn a_rank_that_dies_ends_all_within_seconds() {
    let own = std::env::current_exe().expect("this is a program");
    for kill in 0..KILLS {
        let place = meeting("");
        let rank = |rank: u64| -> Child {
            let mut command = Command::new(&own);
            command.args(["--exact", "stored::one_rank_by_itself", "--ignored", "--nocapture"]);
            command.envs([("RANK", rank.to_string()), ("WORLD_SIZE", "4".to_owned())]);
            command.envs([("MASTER_ADDR", place.host.clone()), ("MASTER_PORT", place.port.to_string())]);
            command.stdout(Stdio::piped()).stderr(Stdio::null());
            command.spawn().expect("it can be started")
        };
        let mut ranks: Vec<Child> = (0..4).map(rank).collect();
        // Line by line, for what is said behind them is read at the end.
        for child in &mut ranks {
            let out = child.stdout.as_mut().expect("it is a pipe");
            let (mut said, mut byte) = (Vec::new(), [0]);
            while !said.ends_with(b"joined\n") {
                assert_eq!(out.read(&mut byte).expect("it can be read"), 1, "{}", String::from_utf8_lossy(&said));
                said.push(byte[0]);
            }
        }
        let now = u64::from(SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").subsec_nanos());
        thread::sleep(Duration::from_micros(now % 100_000));
        let killed = if kill < 4 { kill } else { now / 100_000 % 4 };
        let start = Instant::now();
        ranks[killed as usize].kill().expect("it runs");
        for (rank, child) in ranks.into_iter().enumerate() {
            let ended = child.wait_with_output().expect("it ends");
            let said = String::from_utf8_lossy(&ended.stdout).into_owned();
            if rank as u64 != killed {
                assert_eq!(ended.status.code(), Some(3), "rank {rank}, {killed} was killed: {said}");
                assert!(said.contains(&format!("told: rank {killed} of 4 is gone")), "rank {rank}: {said}");
            }
        }
        println!("rank {killed} killed: all ended after {:.0?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}

/// Ranks of `cmaec` without MPI.
fn launch(count: usize, args: &[&str]) -> Command {
    let count = count.to_string();
    cmaec(&[&["launch", "--without-mpi", "-n", &count, "--"][..], args].concat())
}

fn finish(mut command: Command) -> (i32, String, String) {
    let ended = command.output().expect("it can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (ended.status.code().unwrap_or(-1), text(&ended.stdout), text(&ended.stderr))
}

/// Pictures are shared out; figures, and a file of features, are those of one process, to the byte. Whoever is killed meanwhile, all end.
#[test]
fn ranks_without_mpi_judge_features_together() {
    let place = tempfile::tempdir().expect("a folder can be made");
    let path = |name: &str| place.path().join(name);
    let run = path("run");
    succeed(&[&SMALL[..], &["--backend", "cpu", "--set", "evaluate.knn=none", "--out", text(&run)]].concat());
    let eval = ["eval", "knn", text(&run), "--json", "--backend", "cpu"];
    let read = |said: &str| -> Value {
        serde_json::from_str(said.lines().last().unwrap_or_default()).unwrap_or_else(|error| panic!("{error}: {said}"))
    };
    let alone = read(&succeed(&eval));
    let (code, told, said) = finish(launch(4, &eval));
    assert_eq!((code, told.lines().count()), (0, 1), "{told}{said}");
    assert_eq!(read(&told), alone);
    let [one, three] = ["one.safetensors", "three.safetensors"].map(path);
    let features = ["features", text(&run), "--data", "data.val", "--backend", "cpu", "-o"];
    succeed(&[&features[..], &[text(&one)]].concat());
    let (code, _, said) = finish(launch(3, &[&features[..], &[text(&three)]].concat()));
    assert_eq!(code, 0, "{said}");
    let bytes = |file: &std::path::Path| fs::read(file).expect("it was written");
    assert!(bytes(&one) == bytes(&three), "three ranks write other features");
    for killed in 0..4 {
        let mut command = launch(4, &eval);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be started");
        let launcher = child.id();
        let end = Instant::now() + Duration::from_secs(60);
        let process = loop {
            match of_rank(launcher, killed) {
                Some(process) => break process,
                None => assert!(Instant::now() < end, "rank {killed} is not found"),
            }
            thread::sleep(Duration::from_millis(2));
        };
        // By now all have met, or else wait for one that will not come.
        thread::sleep(Duration::from_millis(200));
        let start = Instant::now();
        let sent = Command::new("kill").args(["-KILL", &process.to_string()]).status().expect("every system has it");
        let ended = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(sent.success(), "rank {killed} ended before it was killed: {said}");
        assert_eq!(ended.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("rank {killed} of 4 has ended: signal: 9")), "{said}");
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        assert!((0..4).all(|rank| of_rank(launcher, rank).is_none()), "a rank is left over");
    }
}

/// The process that is one rank of those that `launcher` has started.
fn of_rank(launcher: u32, rank: u64) -> Option<u32> {
    let (rank, run) = (format!("RANK={rank}"), format!("TORCHELASTIC_RUN_ID=launched {launcher}"));
    fs::read_dir("/proc").expect("these tests are Linux's").flatten().find_map(|entry| {
        let id = entry.file_name().to_str()?.parse::<u32>().ok()?;
        let environment = fs::read(entry.path().join("environ")).ok()?;
        let has = |wanted: &str| environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes());
        (has(&rank) && has(&run)).then_some(id)
    })
}

/// What an engine cannot do is told once, with what to do.
#[test]
fn what_ranks_without_mpi_cannot_do_is_told() {
    let place = tempfile::tempdir().expect("a folder can be made");
    let out = place.path().join("run");
    let train = |backend| [&SMALL[..], &["--backend", backend, "--out", text(&out)]].concat();
    let (code, _, said) = finish(launch(2, &train("cpu")));
    assert_eq!(code, 1, "{said}");
    assert_eq!(said.matches("the cpu backend sums gradients over 2 ranks by MPI").count(), 1, "{said}");
    assert!(said.contains("mpirun -n 2 cmaec run") && said.contains("rank 0 of 2"), "{said}");
    if crate::xla_pjrt::plugin().is_some() {
        let (code, _, said) = finish(launch(2, &train("xla")));
        assert_eq!(code, 1, "{said}");
        assert_eq!(said.matches("devices of cpu are one process's, and 2 share the batch").count(), 1, "{said}");
        assert!(said.contains("--devices N"), "{said}");
    }
    // By hand: half a word, and a port that is none.
    let by_hand = |variables: &[(&str, &str)]| {
        let mut command = cmaec(&train("cpu"));
        finish({
            command.envs(variables.iter().copied());
            command
        })
    };
    let rank = [("RANK", "1"), ("WORLD_SIZE", "2")];
    let (code, _, said) = by_hand(&rank);
    assert!(code == 1 && said.contains("MASTER_ADDR=HOST MASTER_PORT=PORT"), "{said}");
    let (code, _, said) = by_hand(&[&rank[..], &[("MASTER_ADDR", "localhost"), ("MASTER_PORT", "no")]].concat());
    assert!(code == 1 && said.contains("MASTER_PORT is `no`"), "{said}");
    // A command that fails ends the launcher as it ends.
    let (code, _, said) = finish(launch(2, &["run", "nowhere.cmae"]));
    assert!(code == 1 && said.contains("nowhere.cmae") && !said.contains("is gone"), "{said}");
    assert_eq!(run(&["launch", "--without-mpi", "-n", "2", "--", "explain", "no_such_code"]).0, 1);
}
