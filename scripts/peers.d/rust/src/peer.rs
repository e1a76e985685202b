//! A peer of `vmcow compare` (vmcow/cli/compare/peer_program.hpp), whatever the value is made of.
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// Counts the bytes in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Relaxed);
        System.alloc(layout)
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        System.dealloc(memory, layout)
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A value of words that is shared by `clone`.
pub trait Value: Clone {
    fn build(words: impl Iterator<Item = u64>) -> Self;
    fn word(&mut self, index: usize) -> &mut u64;
    fn read(&self, index: usize) -> u64;
    /// What one child copied with its first write and later ones, where that is known.
    fn copied_bytes(&self, has_written: bool) -> Option<u64>;
}

struct Write {
    index: usize,
    mask: u64,
    bits: u64,
}

struct Workload {
    words: u64,
    children: u64,
    writes: Vec<Write>,
    reads: Vec<usize>,
}

fn workload() -> Workload {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).expect("standard input");
    assert!(bytes.starts_with(b"vmcowcmp"), "no workload");
    let all: Vec<u64> = bytes[8..].chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
    assert_eq!(all[0], 1, "the version of the workload");
    let (head, rest) = all.split_at(5);
    let (writes, reads) = rest.split_at(3 * head[3] as usize);
    assert_eq!(reads.len(), head[4] as usize, "the workload ends too early");
    Workload {
        words: head[1],
        children: head[2],
        writes: writes.chunks_exact(3).map(|w| Write { index: w[0] as usize, mask: w[1], bits: w[2] }).collect(),
        reads: reads.iter().map(|index| *index as usize).collect(),
    }
}

pub fn run<V: Value>(about: &str) {
    let work = workload();
    let unused = IN_USE.load(Relaxed);
    let begin = Instant::now();
    let value = V::build((1..=work.words).map(|x| x ^ x << 21 ^ x << 42));
    let build = begin.elapsed();
    let before = IN_USE.load(Relaxed) - unused;

    let mut kept = Vec::new();
    let (mut hand_over, mut write, mut read) = Default::default();
    let mut copied = Some(0);
    let mut checksum = 0u64;
    for _ in 0..work.children {
        let begin = Instant::now();
        let mut mine = value.clone();
        hand_over += begin.elapsed();
        let begin = Instant::now();
        for Write { index, mask, bits } in &work.writes {
            let word = mine.word(*index);
            *word = *word & !mask | bits;
        }
        write += begin.elapsed();
        let begin = Instant::now();
        checksum = 0;
        for index in &work.reads {
            checksum = checksum.rotate_left(5) ^ mine.read(*index);
        }
        read += begin.elapsed();
        copied = copied.zip(mine.copied_bytes(!work.writes.is_empty())).map(|(all, one)| all + one);
        kept.push(mine);
    }

    println!(
        "{{\"build_seconds\": {}, \"hand_over_seconds\": {}, \"write_seconds\": {}, \"read_seconds\": {}, \
         \"memory_before_bytes\": {before}, \"memory_after_bytes\": {}, \"copied_bytes\": {}, \
         \"checksum\": \"{checksum:016x}\", \"about\": \"{about}, memory from its allocator\"}}",
        build.as_secs_f64(),
        std::time::Duration::as_secs_f64(&hand_over),
        std::time::Duration::as_secs_f64(&write),
        std::time::Duration::as_secs_f64(&read),
        IN_USE.load(Relaxed) - unused,
        copied.map_or("null".to_string(), |bytes: u64| bytes.to_string()),
    );
}
