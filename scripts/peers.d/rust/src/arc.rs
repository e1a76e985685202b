//! `Arc<Vec<u64>>`: a counted buffer, which `Arc::make_mut` copies as a whole when it is shared.
mod peer;

use std::sync::Arc;

impl peer::Value for Arc<Vec<u64>> {
    fn build(words: impl Iterator<Item = u64>) -> Self {
        Arc::new(words.collect())
    }
    fn word(&mut self, index: usize) -> &mut u64 {
        &mut Arc::make_mut(self)[index]
    }
    fn read(&self, index: usize) -> u64 {
        self[index]
    }
    fn copied_bytes(&self, has_written: bool) -> Option<u64> {
        Some(if has_written { 8 * self.len() as u64 } else { 0 })
    }
}

fn main() {
    peer::run::<Arc<Vec<u64>>>("Rust, Arc::make_mut of a Vec");
}
