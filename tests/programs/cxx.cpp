// build: -O1 -g -fno-omit-frame-pointer -std=c++17
// SPDX-License-Identifier: Apache-2.0
/*
 * All forms of operator new. They call malloc inside, but each counts once. In launch mode the C++
 * runtime's reserve for exceptions is counted in addition.
 */
#include <new>
#include <string>
#include <vector>

#include "answers.h"

namespace {

constexpr int objects = 1009, arrays = 503, vectors = 211, strings = 307, aligned = 101;
constexpr int leaked_sessions = 19, leaked_arrays = 5;
constexpr size_t leaked_array_size = 4111;

struct Session {
	char data[233];
};

struct alignas(64) Line {
	char data[192];
};

void *volatile sink;

template <typename T> T *visible(T *pointer)
{
	sink = pointer;
	return pointer;
}

NOINLINE void leak_session()
{
	visible(new Session);
}

NOINLINE void leak_array()
{
	visible(new char[leaked_array_size]);
}

void balanced()
{
	for (int i = 0; i < objects; i++)
		delete visible(new Session);
	for (int i = 0; i < arrays; i++)
		delete[] visible(new int[100 + i]);
	for (int i = 0; i < aligned; i++)
		delete visible(new (std::nothrow) Line);
	for (int i = 0; i < vectors; i++) {
		std::vector<int> numbers(1000 + i);
		visible(numbers.data());
	}
	for (int i = 0; i < strings; i++) {
		std::string text(100 + i, 'x');
		visible(text.data());
	}
}

} // namespace

int main(int argc, char **argv)
{
	constexpr long pairs = objects + arrays + aligned + vectors + strings;

	parse_now(argc, argv);
	stage("ready");
	balanced();
	for (int i = 0; i < leaked_sessions; i++)
		leak_session();
	for (int i = 0; i < leaked_arrays; i++)
		leak_array();
	sink = nullptr;
	answer("allocs", pairs + leaked_sessions + leaked_arrays);
	answer("frees", pairs);
	answer("session_blocks", leaked_sessions);
	answer("session_bytes", leaked_sessions * sizeof(Session));
	answer("array_blocks", leaked_arrays);
	answer("array_bytes", leaked_arrays * leaked_array_size);
	answer("live_blocks", leaked_sessions + leaked_arrays);
	answer("live_bytes", leaked_sessions * sizeof(Session) + leaked_arrays * leaked_array_size);
	stage("done");
	return 0;
}
