// SPDX-License-Identifier: Apache-2.0
// A service that keeps the answers of requests: `bounded` keeps 500, `growing` keeps all.

use std::collections::VecDeque;
use std::io::{self, BufRead, Write};

struct Answers {
    kept: VecDeque<Vec<u8>>,
    held: usize,
}

impl Answers {
    #[inline(never)]
    fn remember(&mut self, number: usize) {
        let answer = vec![number as u8; 2000 + number % 101];
        self.held += answer.len();
        self.kept.push_back(answer);
    }

    #[inline(never)]
    fn forget_oldest(&mut self) {
        if let Some(answer) = self.kept.pop_front() {
            self.held -= answer.len();
        }
    }
}

fn main() {
    let bounded = std::env::args().nth(1).as_deref() == Some("bounded");
    let mut answers = Answers { kept: VecDeque::new(), held: 0 };
    let mut number = 0;
    for line in io::stdin().lock().lines() {
        let requests: usize = line.unwrap().trim().parse().unwrap();
        for _ in 0..requests {
            answers.remember(number);
            number += 1;
            if bounded && answers.kept.len() > 500 {
                answers.forget_oldest();
            }
        }
        println!("held {}", answers.held);
        io::stdout().flush().unwrap();
    }
}
