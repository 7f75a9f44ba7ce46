// SPDX-License-Identifier: Apache-2.0
use std::collections::BTreeMap;
fn main() {
    let threads: Vec<_> = (1..5u64).map(|n| std::thread::spawn(move || {
        let mut m = BTreeMap::new();
        for i in 0..2000u64 { m.insert(format!("{:?}", (i * n, vec![i; 5])), vec![i; (i % 50) as usize]); }
        let mut v: Vec<_> = m.into_iter().collect();
        v.sort_by_key(|(k, _)| k.chars().rev().collect::<String>());
        v.len()
    })).collect();
    for t in threads { println!("{}", t.join().unwrap()); }
}
