//! The vector of the im crate: a tree of blocks. A write copies one block and the path to it.
mod peer;

use im_rc::Vector;

impl peer::Value for Vector<u64> {
    fn build(words: impl Iterator<Item = u64>) -> Self {
        words.collect()
    }
    fn word(&mut self, index: usize) -> &mut u64 {
        self.get_mut(index).expect("an index")
    }
    fn read(&self, index: usize) -> u64 {
        self[index]
    }
    fn copied_bytes(&self, _has_written: bool) -> Option<u64> {
        None
    }
}

fn main() {
    peer::run::<Vector<u64>>("Rust, im_rc::Vector");
}
