// SPDX-License-Identifier: Apache-2.0
// A cache of strings: `lru` keeps 1,000 of them, `map` keeps all.

#include <cstdio>
#include <list>
#include <string>
#include <unordered_map>

static std::list<std::pair<long, std::string>> entries;
static std::unordered_map<long, decltype(entries)::iterator> by_key;

__attribute__((noinline)) static void remember(long key)
{
	entries.emplace_front(key, std::string(1000 + key % 97, 'x'));
	by_key[key] = entries.begin();
}

__attribute__((noinline)) static void evict_oldest()
{
	by_key.erase(entries.back().first);
	entries.pop_back();
}

int main(int argc, char **argv)
{
	bool bounded = argc > 1 && std::string(argv[1]) == "lru";
	long next = 0, requests;

	while (scanf("%ld", &requests) == 1) {
		for (; requests > 0; requests--) {
			remember(next++);
			if (bounded && entries.size() > 1000)
				evict_oldest();
		}
		long held = 0;
		for (const auto &entry : entries)
			held += entry.second.capacity() + 1;
		printf("held %ld\n", held);
		fflush(stdout);
	}
	return 0;
}
