// SPDX-License-Identifier: Apache-2.0
#include <iostream>
#include <map>
#include <regex>
#include <string>
#include <thread>
#include <vector>
static void work(int n) {
  std::map<std::string, std::vector<int>> m;
  std::regex r("([a-z]+)([0-9]*)");
  for (int i = 0; i < 300; i++) {
    std::string s = "key" + std::to_string(i * n), t(100, 'x');
    std::smatch found;
    if (std::regex_match(s, found, r)) m[found[1].str() + s + t].push_back(i);
    try { if (i % 7 == 0) throw std::runtime_error(s + t); } catch (std::exception &e) { m[e.what()]; }
  }
}
int main() {
  std::vector<std::thread> threads;
  for (int i = 1; i < 5; i++) threads.emplace_back(work, i);
  for (auto &thread : threads) thread.join();
}
