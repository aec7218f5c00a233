//! The resolver over real sockets, against a scripted name server.

use std::time::Instant;

use mio::{Events, Poll, Token};
use tocsin_core::webhook::address::AddressPolicy;
use tocsin_sim::{DnsAnswer, DnsStub, DnsType};

use super::*;

const HOST: &str = "hooks.acme.io";

struct Asker {
    poll: Poll,
    client: EgressClient,
    _resolver: EgressResolver,
    next: u64,
}

impl Asker {
    fn new(servers: &[SocketAddr], resolv_conf: &Path) -> io::Result<Asker> {
        let poll = Poll::new()?;
        let wake = Arc::new(mio::Waker::new(poll.registry(), Token(0))?);
        let (resolver, client) = EgressResolver::start_with(servers, resolv_conf, wake)?;
        Ok(Asker { poll, client, _resolver: resolver, next: 0 })
    }

    fn of(stub: &DnsStub) -> Asker {
        Asker::new(&[stub.address()], Path::new("/nonexistent")).unwrap()
    }

    /// Sleeps until woken, so that an answer without a wake-up hangs the test.
    fn wait(&mut self) -> EgressAnswer {
        let mut events = Events::with_capacity(4);
        loop {
            if let Some(answer) = self.client.poll() {
                return answer;
            }
            self.poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
            assert!(!events.is_empty(), "no answer and no wake-up");
        }
    }

    fn ask(&mut self, host: &str) -> EgressAnswer {
        self.next += 1;
        assert!(self.client.ask(self.next, host));
        let answer = self.wait();
        assert_eq!(answer.id, self.next);
        answer
    }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn addresses(texts: &[&str]) -> DnsAnswer {
    DnsAnswer::addresses(texts)
}

/// Asks once for a name with this script.
fn one(script: Vec<DnsAnswer>) -> EgressAnswer {
    let stub = DnsStub::start([(HOST, script)]).unwrap();
    Asker::of(&stub).ask(HOST)
}

#[test]
fn both_families_are_asked_and_given_together() {
    let stub =
        DnsStub::start([(HOST, vec![addresses(&["2606:4700::1", "93.184.216.34", "1.1.1.1"])])]).unwrap();
    let mut asker = Asker::of(&stub);
    let answer = asker.ask(HOST);
    assert_eq!(answer.result, Ok(ips(&["93.184.216.34", "1.1.1.1", "2606:4700::1"])));
    assert!(answer.took <= limits::WEBHOOK_DNS_TIMEOUT, "{answer:?}");
    assert_eq!((stub.asked(HOST, DnsType::A), stub.asked(HOST, DnsType::Aaaa)), (1, 1));
    for family in [&["9.9.9.9"][..], &["2606:4700::2"]] {
        stub.script(HOST, vec![addresses(family)]);
        assert_eq!(asker.ask(HOST).result, Ok(ips(family)));
    }
}

#[test]
fn an_address_is_given_as_it_came_and_once() {
    let answer = one(vec![addresses(&["::ffff:127.0.0.1", "::ffff:127.0.0.1", "1.1.1.1", "1.1.1.1"])]);
    assert_eq!(answer.result, Ok(ips(&["1.1.1.1", "::ffff:127.0.0.1"])));
    let refused = AddressPolicy::default().check_answer(&answer.result.unwrap()).unwrap_err();
    assert_eq!(refused.code(), "mixed");
}

#[test]
fn an_answer_is_fresh_for_its_shortest_time_to_live_between_5_and_60_seconds() {
    for (ttl, seconds) in [(0, 5), (4, 5), (6, 6), (59, 59), (61, 60), (u32::MAX >> 1, 60)] {
        let answer = one(vec![DnsAnswer::Ttl(ttl, Box::new(addresses(&["1.1.1.1"])))]);
        assert_eq!(answer.fresh_for, Duration::from_secs(seconds), "{ttl}");
    }
    let alias = DnsAnswer::Ttl(7, Box::new(DnsAnswer::Alias("edge.acme.io".into())));
    let target = DnsAnswer::Ttl(50, Box::new(addresses(&["1.1.1.1"])));
    let stub = DnsStub::start([(HOST, vec![alias]), ("edge.acme.io", vec![target])]).unwrap();
    assert_eq!(Asker::of(&stub).ask(HOST).fresh_for, Duration::from_secs(7));
    assert_eq!(one(vec![DnsAnswer::NoName]).fresh_for, limits::WEBHOOK_DNS_FRESH_AT_LEAST);
}

#[test]
fn nothing_is_kept_so_every_question_gets_the_answer_of_its_time() {
    let stub = DnsStub::start([(
        HOST,
        vec![
            addresses(&["1.1.1.1"]),
            addresses(&["127.0.0.1", "::1"]),
            DnsAnswer::NoName,
            addresses(&["9.9.9.9"]),
        ],
    )])
    .unwrap();
    let mut asker = Asker::of(&stub);
    assert_eq!(asker.ask(HOST).result, Ok(ips(&["1.1.1.1"])));
    assert_eq!(asker.ask(HOST).result, Ok(ips(&["127.0.0.1", "::1"])));
    assert_eq!(asker.ask(HOST).result, Err(DnsFailure::NoName));
    assert_eq!(asker.ask(HOST).result, Ok(ips(&["9.9.9.9"])));
    assert_eq!((stub.asked(HOST, DnsType::A), stub.asked(HOST, DnsType::Aaaa)), (4, 4));
}

#[test]
fn aliases_are_followed_to_their_addresses() {
    let alias = |name: &str| vec![DnsAnswer::Alias(name.into())];
    let alone = |name: &str| vec![DnsAnswer::AliasAlone(name.into())];
    let stub = DnsStub::start([
        ("one.acme.io", alias("two.acme.io")),
        ("two.acme.io", alias("end.acme.io")),
        ("alone.acme.io", alone("next.acme.io")),
        ("next.acme.io", alone("end.acme.io")),
        ("inside.acme.io", alias("internal.acme.io")),
        ("end.acme.io", vec![addresses(&["1.1.1.1", "2606:4700::1"])]),
        ("internal.acme.io", vec![addresses(&["10.0.0.1"])]),
        ("dead.acme.io", alias("nowhere.acme.io")),
        ("loop.acme.io", alias("pool.acme.io")),
        ("pool.acme.io", alias("loop.acme.io")),
        ("loop-alone.acme.io", alone("loop-alone.acme.io")),
    ])
    .unwrap();
    let mut asker = Asker::of(&stub);
    for name in ["one.acme.io", "alone.acme.io"] {
        assert_eq!(asker.ask(name).result, Ok(ips(&["1.1.1.1", "2606:4700::1"])), "{name}");
    }
    assert_eq!(asker.ask("inside.acme.io").result, Ok(ips(&["10.0.0.1"])));
    for name in ["dead.acme.io", "loop.acme.io", "loop-alone.acme.io"] {
        assert_eq!(asker.ask(name).result, Err(DnsFailure::NoName), "{name}");
    }
}

#[test]
fn failures_are_told_apart() {
    for (script, failure) in [
        (DnsAnswer::NoName, DnsFailure::NoName),
        (addresses(&[]), DnsFailure::NoName),
        (DnsAnswer::ServerFailure, DnsFailure::ServerFailure),
        (DnsAnswer::Refused, DnsFailure::ServerFailure),
        (DnsAnswer::Garbage(vec![0xff; 40]), DnsFailure::Malformed),
        (DnsAnswer::Garbage(Vec::new()), DnsFailure::Malformed),
        (DnsAnswer::Truncated(Box::new(DnsAnswer::ServerFailure)), DnsFailure::ServerFailure),
    ] {
        assert_eq!(one(vec![script.clone()]).result, Err(failure), "{script:?}");
    }
    let names: std::collections::BTreeSet<_> = [
        DnsFailure::NoName,
        DnsFailure::Timeout,
        DnsFailure::ServerFailure,
        DnsFailure::Malformed,
        DnsFailure::TooMany,
    ]
    .map(|failure| (failure.name(), failure.to_string()))
    .into();
    assert_eq!(names.len(), 5);
}

#[test]
fn what_cannot_be_a_name_is_not_asked_for_and_an_address_answers_itself() {
    let stub = DnsStub::start::<&str>([]).unwrap();
    let mut asker = Asker::of(&stub);
    let long = format!("{}.io", "a".repeat(64));
    for host in ["", ".", "a..b", &long, &"abc.".repeat(80)] {
        assert_eq!(asker.ask(host).result, Err(DnsFailure::Malformed), "{host:?}");
    }
    for host in ["10.0.0.1", "::1"] {
        assert_eq!(asker.ask(host).result, Ok(ips(&[host])));
    }
    assert_eq!(stub.names_asked(), []);
}

#[test]
fn a_truncated_answer_is_asked_for_over_tcp_and_taken_whole() {
    // The datagram shows the public address alone.
    let stub = DnsStub::start([(
        HOST,
        vec![DnsAnswer::Truncated(Box::new(addresses(&["1.1.1.1", "10.0.0.1"]))), addresses(&["9.9.9.9"])],
    )])
    .unwrap();
    let mut asker = Asker::of(&stub);
    assert_eq!(asker.ask(HOST).result, Ok(ips(&["1.1.1.1", "10.0.0.1"])));
    assert_eq!((stub.asked(HOST, DnsType::A), stub.messages(HOST, DnsType::A)), (1, 2));
    assert_eq!(asker.ask(HOST).result, Ok(ips(&["9.9.9.9"])));
}

#[test]
fn more_addresses_than_are_looked_at_fail_the_lookup() {
    let many = |count: u32| {
        DnsAnswer::Addresses((0..count).map(|n| IpAddr::from((0x0808_0000 + n).to_be_bytes())).collect())
    };
    let most = u32::try_from(limits::WEBHOOK_DNS_ADDRESSES).unwrap();
    assert_eq!(one(vec![many(most)]).result.unwrap().len(), limits::WEBHOOK_DNS_ADDRESSES);
    assert_eq!(one(vec![many(most + 1)]).result, Err(DnsFailure::TooMany));
    // Near the longest message TCP can carry.
    assert_eq!(one(vec![many(2_000)]).result, Err(DnsFailure::TooMany));
}

#[test]
fn what_is_sent_under_another_message_identifier_is_not_taken() {
    let forged = DnsAnswer::Forged(
        ips(&["6.6.6.6", "2001:db8::6"]),
        Box::new(addresses(&["1.1.1.1", "2606:4700::1"])),
    );
    assert_eq!(one(vec![forged]).result, Ok(ips(&["1.1.1.1", "2606:4700::1"])));
}

#[test]
fn half_an_answer_is_none_and_many_silent_names_end_in_time_together() {
    let stub = DnsStub::start([
        ("silent.acme.io", vec![DnsAnswer::Silence]),
        ("slow.acme.io", vec![DnsAnswer::Slow(Duration::from_secs(60), Box::new(addresses(&["1.1.1.1"])))]),
        ("late.acme.io", vec![DnsAnswer::Slow(Duration::from_millis(50), Box::new(addresses(&["1.1.1.1"])))]),
        (HOST, vec![addresses(&["1.1.1.1"])]),
    ])
    .unwrap();
    let mut asker = Asker::of(&stub);
    assert!(asker.ask("late.acme.io").took >= Duration::from_millis(50));
    let silent: u64 = 40;
    for id in 0..silent {
        assert!(asker.client.ask(id, if id % 2 == 0 { "silent.acme.io" } else { "slow.acme.io" }));
    }
    assert!(asker.client.ask(silent, HOST));
    let first = asker.wait();
    assert_eq!((first.id, first.result), (silent, Ok(ips(&["1.1.1.1"]))), "nobody waits for the silent ones");
    let began = Instant::now();
    for _ in 0..silent {
        let answer = asker.wait();
        assert_eq!(answer.result, Err(DnsFailure::Timeout));
        assert!(answer.took >= limits::WEBHOOK_DNS_TIMEOUT, "{answer:?}");
    }
    assert!(began.elapsed() < 5 * limits::WEBHOOK_DNS_TIMEOUT, "they were waited for one after the other");
}

#[test]
fn one_family_that_fails_fails_the_lookup() {
    // The first turn of a family fails, the second does not: A and AAAA each have their own.
    struct Case(DnsAnswer, DnsFailure);
    for Case(bad, failure) in [
        Case(DnsAnswer::ServerFailure, DnsFailure::ServerFailure),
        Case(DnsAnswer::Garbage(vec![1]), DnsFailure::Malformed),
    ] {
        let stub = DnsStub::start([
            (
                HOST,
                vec![DnsAnswer::ByType { a: Box::new(addresses(&["1.1.1.1"])), aaaa: Box::new(bad.clone()) }],
            ),
            (
                "other.acme.io",
                vec![DnsAnswer::ByType { a: Box::new(bad), aaaa: Box::new(addresses(&["2606:4700::1"])) }],
            ),
        ])
        .unwrap();
        let mut asker = Asker::of(&stub);
        assert_eq!(asker.ask(HOST).result, Err(failure));
        assert_eq!(asker.ask("other.acme.io").result, Err(failure));
    }
    // No record of one family is no failure, however the server says it.
    let stub = DnsStub::start([(
        HOST,
        vec![DnsAnswer::ByType { a: Box::new(addresses(&["1.1.1.1"])), aaaa: Box::new(DnsAnswer::NoName) }],
    )])
    .unwrap();
    assert_eq!(Asker::of(&stub).ask(HOST).result, Ok(ips(&["1.1.1.1"])));
}

#[test]
fn a_full_ring_refuses_and_every_question_taken_is_answered_once() {
    let stub = DnsStub::start([(HOST, vec![addresses(&["1.1.1.1"])])]).unwrap();
    let mut asker = Asker::of(&stub);
    let mut asked = 0;
    while asker.client.ask(asked, HOST) {
        asked += 1;
    }
    assert_eq!(usize::try_from(asked).unwrap(), limits::WEBHOOK_DNS_QUESTIONS);
    let mut seen = vec![0; limits::WEBHOOK_DNS_QUESTIONS];
    for _ in 0..asked {
        seen[usize::try_from(asker.wait().id).unwrap()] += 1;
    }
    assert!(seen.iter().all(|times| *times == 1));
    assert_eq!(asker.ask(HOST).result, Ok(ips(&["1.1.1.1"])));
}

#[test]
fn a_server_that_is_gone_silent_or_broken_gives_way_to_the_next_and_is_not_asked_first_again() {
    let good = DnsStub::start([(HOST, vec![addresses(&["1.1.1.1"])])]).unwrap();
    let gone = DnsStub::start::<&str>([]).unwrap().address();
    for bad in [DnsAnswer::ServerFailure, DnsAnswer::Refused, DnsAnswer::Silence, DnsAnswer::Garbage(vec![1])]
    {
        let stub = DnsStub::start([(HOST, vec![bad.clone()])]).unwrap();
        let mut asker =
            Asker::new(&[stub.address(), gone, good.address()], Path::new("/nonexistent")).unwrap();
        for _ in 0..2 {
            assert_eq!(asker.ask(HOST).result, Ok(ips(&["1.1.1.1"])), "{bad:?}");
        }
        assert_eq!(stub.asked(HOST, DnsType::A), 1, "{bad:?}");
    }
    // That there is no such name is an answer; nobody else is asked.
    let other = DnsStub::start([(HOST, vec![addresses(&["1.1.1.1"])])]).unwrap();
    let none = DnsStub::start::<&str>([]).unwrap();
    let mut asker = Asker::new(&[none.address(), other.address()], Path::new("/nonexistent")).unwrap();
    assert_eq!(asker.ask(HOST).result, Err(DnsFailure::NoName));
    assert_eq!(other.names_asked(), []);
    // Where all fail, one failure is told.
    let broken = DnsStub::start([(HOST, vec![DnsAnswer::ServerFailure])]).unwrap();
    let mut asker = Asker::new(&[broken.address(); 3], Path::new("/nonexistent")).unwrap();
    assert_eq!(asker.ask(HOST).result, Err(DnsFailure::ServerFailure));
    assert!(Asker::new(&[gone; limits::WEBHOOK_DNS_SERVERS + 1], Path::new("/nonexistent")).is_err());
}

#[test]
fn resolv_conf_gives_its_name_servers_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resolv.conf");
    std::fs::write(&path, "search corp.lan acme.io\noptions ndots:5\nnameserver 127.0.0.1\nnameserver ::1\n")
        .unwrap();
    let servers = system_servers(&path).unwrap();
    assert_eq!(servers.iter().map(|s| s.ip).collect::<Vec<_>>(), ips(&["127.0.0.1", "::1"]));
    assert!(servers.iter().all(|s| s.connections.len() == 2 && s.connections.iter().all(|c| c.port == 53)));

    // A name with fewer dots than ndots, and one that a search list would complete.
    let stub = DnsStub::start([("hooks.corp.lan", vec![addresses(&["10.0.0.1"])])]).unwrap();
    let mut asker = Asker::new(&[stub.address()], &path).unwrap();
    for name in ["a.b", "hooks"] {
        assert_eq!(asker.ask(name).result, Err(DnsFailure::NoName));
    }
    let mut names: Vec<_> = stub.names_asked().into_iter().map(|(name, _)| name).collect();
    names.dedup();
    assert_eq!(names, ["a.b", "hooks"]);
}

#[test]
fn a_resolv_conf_that_names_nobody_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "search acme.io\n").unwrap();
    for (path, kind, why) in [
        (&missing, io::ErrorKind::NotFound, "No such file"),
        (&folder.path().to_owned(), io::ErrorKind::IsADirectory, "Is a directory"),
        (&empty, io::ErrorKind::InvalidData, "no nameservers found"),
    ] {
        let error = Asker::new(&[], path).err().unwrap();
        assert_eq!(error.kind(), kind);
        let text = error.to_string();
        assert!(text.starts_with(&format!("{}: {why}", path.display())), "{text}");
        assert!(text.contains("egress.resolvers"), "{text}");
    }
}

#[test]
fn the_hosts_file_is_not_read() {
    // The hosts file of every machine gives these; the name server says otherwise.
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let stub = DnsStub::start::<&str>([]).unwrap();
    let mut asker = Asker::of(&stub);
    let names =
        hosts.lines().filter(|line| !line.starts_with('#')).flat_map(|line| line.split_whitespace().skip(1));
    for name in names.filter(|name| !name.ends_with("localhost")) {
        assert!(asker.ask(name).result.is_err(), "{name}");
    }
}

#[test]
fn dropping_the_resolver_ends_its_thread_with_lookups_in_flight() {
    let stub = DnsStub::start([(HOST, vec![DnsAnswer::Silence])]).unwrap();
    let poll = Poll::new().unwrap();
    let wake = Arc::new(mio::Waker::new(poll.registry(), Token(0)).unwrap());
    let (resolver, mut client) = EgressResolver::start(&[stub.address()], Arc::clone(&wake)).unwrap();
    assert!(client.ask(1, HOST));
    while stub.messages(HOST, DnsType::A) == 0 {
        std::thread::yield_now();
    }
    let began = Instant::now();
    drop(resolver);
    // The thread holds the other reference to the waker, and its end of the ring of questions.
    while Arc::strong_count(&wake) > 1 {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(began.elapsed() < limits::WEBHOOK_DNS_TIMEOUT, "it waited for the lookup");
    assert!(!client.ask(2, HOST));
    assert_eq!(client.poll(), None);
}
