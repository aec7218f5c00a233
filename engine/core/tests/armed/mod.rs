//! An armed allocator: counts what a thread allocates while it is asked to, and what it holds. Shared by the
//! tests of both packages; a test binary that has this module has this allocator.

#![allow(unreachable_pub, reason = "tests of both packages share it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Counts this thread's allocations while `Some`. Const, so that reading it allocates nothing.
    static ARMED: Cell<Option<u64>> = const { Cell::new(None) };
    /// Bytes this thread has allocated less those it has freed.
    static HELD: Cell<i64> = const { Cell::new(0) };
}

struct Counting;

fn note(bytes: usize) {
    // A thread that is ending has no counter any more, and is not one under test.
    let _ = ARMED.try_with(|armed| armed.set(armed.get().map(|n| n + 1)));
    hold(bytes.cast_signed());
}

fn hold(bytes: isize) {
    let _ = HELD.try_with(|held| held.set(held.get() + bytes as i64));
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches only a
// thread-local that needs no allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as for `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        hold(-layout.size().cast_signed());
        // SAFETY: `at` came from `System` with this layout, as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(bytes);
        hold(-layout.size().cast_signed());
        // SAFETY: as for `dealloc`; `bytes` is the caller's promise.
        unsafe { System.realloc(at, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often this thread allocated in `work`.
pub fn allocations(work: impl FnOnce()) -> u64 {
    ARMED.set(Some(0));
    work();
    ARMED.take().unwrap_or(0)
}

/// Bytes this thread has allocated and not freed. What another thread frees stays counted here.
#[allow(dead_code, reason = "not every test that has this module asks")]
pub fn held() -> i64 {
    HELD.get()
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1_u64)))), 1);
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![0_u8; 64]))), 1);
    assert_eq!(allocations(|| ()), 0);
    let before = held();
    let mut kept = std::hint::black_box(Vec::<u8>::with_capacity(100));
    assert_eq!(held() - before, 100);
    kept.reserve_exact(1_000);
    assert_eq!(held() - before, 1_000);
    drop(kept);
    assert_eq!(held(), before);
}
