//! What all targets share: a bound on memory, and a question to the seeds.
//!
//! libFuzzer's `-malloc_limit_mb` needs a sanitizer's hooks and does nothing without one, and its
//! `-rss_limit_mb` looks once a second. So Rust's allocator is bounded here: who asks for more
//! than [`MOST`] ends the process, which is a finding. SQLite's memory is C's and falls under
//! `-rss_limit_mb` only.
//!
//! A target whose seeds are not understood any more tries the first line of a parser and nothing
//! behind it. With `REHOME_FUZZ_SEEDS` set, an input that is not understood is a finding.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::hint::black_box;
use std::panic::{set_hook, take_hook};
use std::process::abort;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// The bytes that may be held at once while an input is read. Inputs have at most 16 KiB.
pub const MOST: usize = 2 * 1024 * 1024;

/// The system's allocator, as far as the limit allows.
struct Bounded;

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;
static HELD: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
static SEEDS: AtomicBool = AtomicBool::new(false);

/// Whether so many bytes more are too many.
fn too_many(more: usize) -> bool {
    HELD.load(Relaxed).saturating_add(more) > LIMIT.load(Relaxed)
}

// SAFETY: every block comes from the system's allocator and goes back to it with the same layout.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if too_many(layout.size()) {
            // To tell of it takes memory too.
            LIMIT.store(usize::MAX, Relaxed);
            eprintln!("{} bytes more are too many\n{}", layout.size(), Backtrace::force_capture());
            abort();
        }
        HELD.fetch_add(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises, and `alloc` had it from there.
        unsafe { System.dealloc(block, layout) };
        HELD.fetch_sub(layout.size(), Relaxed);
    }
}

/// Sets the bound and shows that it binds; to be called once, before the first input.
pub fn prepare() {
    let report = take_hook();
    set_hook(Box::new(move |panic| {
        // A backtrace takes more than any input may.
        LIMIT.store(usize::MAX, Relaxed);
        report(panic);
    }));
    SEEDS.store(std::env::var_os("REHOME_FUZZ_SEEDS").is_some(), Relaxed);
    LIMIT.store(HELD.load(Relaxed) + MOST, Relaxed);
    let half = black_box(vec![1_u8; MOST / 2 + 1]);
    assert!(too_many(half.len()), "what is held is not counted");
    drop(half);
    assert!(!too_many(MOST), "what is given back is counted on");
}

/// Says whether the input was understood, which each seed has to be.
pub fn understood(yes: bool) {
    assert!(yes || !SEEDS.load(Relaxed), "a seed that is not understood");
}
