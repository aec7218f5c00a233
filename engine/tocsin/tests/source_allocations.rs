//! A source thread whose exchanges say nothing new allocates nothing: an armed allocator counts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use support::rig::{Options, Rig};
use support::{Reply, Server, ok, with_headers};
use tocsin::threads::source::stats::Count;
use tocsin_core::source::exchange::{bithumb, upbit};

thread_local! {
    /// Counts this thread's allocations while `Some`. Const, so that reading it allocates nothing.
    static ARMED: Cell<Option<u64>> = const { Cell::new(None) };
}

struct Counting;

fn note() {
    // A thread that is ending has no counter any more, and is not one under test.
    let _ = ARMED.try_with(|armed| armed.set(armed.get().map(|n| n + 1)));
}

// SAFETY: every call is passed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    ARMED.set(Some(0));
    work();
    ARMED.take().unwrap_or(0)
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1_u64)))), 1);
    assert_eq!(allocations(|| ()), 0);
}

#[test]
fn unchanged_answers_allocate_nothing() {
    // A server of one kind of answer each: the same body, a counter that ticks, 304.
    let row = r#"{"listed_at":"2026-01-02T03:04:05+09:00","first_listed_at":"2026-01-02T03:04:05+09:00","id":7,"title":"안내 (ABC)","category":"안내"}"#;
    let page = move |total: usize| {
        format!(
            r#"{{"success":true,"data":{{"total_pages":1,"total_count":{total},"notices":[{row}],"fixed_notices":[]}}}}"#
        )
    };
    let notices = r#"[{"categories":["안내"],"title":"안내","pc_url":"https://example.test/notice/7","published_at":"2026-01-02 03:04:05","modified_at":"2026-01-02 03:04:05"}]"#;
    let same = Server::start(None, move |_| Reply::Send(ok(notices)));
    let ticking = Server::start(None, move |seen| Reply::Send(ok(&page(100 + seen.request % 800))));
    let conditional = Server::start(None, move |seen| match seen.header("If-None-Match") {
        None => Reply::Send(with_headers("200 OK", &["ETag: \"x\""], &page(1))),
        Some(_) => Reply::Send(b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n".to_vec()),
    });
    let mut rig = Rig::new(vec![
        Options::new(&bithumb::API, &same.url("http")),
        Options::new(&upbit::WEB, &ticking.url("http")),
        Options::new(&upbit::WEB, &conditional.url("http")),
    ]);
    let warm = |rig: &mut Rig| {
        for lane in 0..3 {
            rig.answers(lane, 40);
        }
    };
    warm(&mut rig);
    assert_eq!(allocations(|| warm(&mut rig)), 0);
    assert!(rig.stats[0].count(Count::Identical) >= 40);
    assert!(rig.stats[1].count(Count::OnlyNoise) >= 40);
    assert!(rig.stats[2].count(Count::NotModified) >= 40);
    assert!(rig.announced.is_empty());
}
