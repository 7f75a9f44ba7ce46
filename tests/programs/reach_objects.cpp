// build: -O1 -g -std=c++17
// SPDX-License-Identifier: Apache-2.0
/*
 * C++ objects, held and lost: containers, smart pointers, cycles of them, and objects to which only
 * pointers into the middle exist, as compilers and libraries make them (valgrind's heuristics).
 */
#include <any>
#include <deque>
#include <forward_list>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <new>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "blocks.h"

/* Names what a container allocates. */
template <class T> struct Noting {
	using value_type = T;
	const char *name = "unnamed";
	class_of_block expected = REACHABLE;

	Noting() = default;
	Noting(const char *name, class_of_block expected) : name(name), expected(expected) {}
	template <class U> Noting(const Noting<U> &other) : name(other.name), expected(other.expected) {}
	T *allocate(size_t count)
	{
		void *block = ::operator new(count * sizeof(T));

		return static_cast<T *>(noted(block, name, count * sizeof(T), expected));
	}
	void deallocate(T *block, size_t) { ::operator delete(block); }
	template <class U> bool operator==(const Noting<U> &) const { return true; }
	template <class U> bool operator!=(const Noting<U> &) const { return false; }
};

template <class T> static T *lost(T *object, const char *name, class_of_block expected = DEFINITE)
{
	noted(static_cast<void *>(object), name, sizeof(T), expected);
	return object;
}

/* All blocks of this name and of the other one are one lost cycle. */
static void expect_cycle_of(const char *name, const char *other)
{
	void *blocks[MAX_BLOCKS];
	int count = 0;

	for (int i = 0; i < named_count; i++)
		if (!strcmp(named[i].name, name) || !strcmp(named[i].name, other))
			blocks[count++] = reinterpret_cast<void *>(~named[i].complement);
	expect_cycle(blocks, count);
	memset(blocks, 0, sizeof(blocks));
}

using IntAllocator = Noting<int>;
using Map = std::map<int, int, std::less<int>, Noting<std::pair<const int, int>>>;
using List = std::list<int, IntAllocator>;
using Vector = std::vector<int, IntAllocator>;
using Deque = std::deque<int, IntAllocator>;
using Forward = std::forward_list<int, IntAllocator>;
using Hashed =
	std::unordered_map<int, int, std::hash<int>, std::equal_to<int>, Noting<std::pair<const int, int>>>;
using String = std::basic_string<char, std::char_traits<char>, Noting<char>>;

template <class C> static void fill(C &container)
{
	for (int i = 0; i < 6; i++)
		container.insert(container.end(), i);
}

static void held_containers()
{
	static Map map{Noting<std::pair<const int, int>>("map-held", REACHABLE)};
	static List list{IntAllocator("list-held", REACHABLE)};
	static Vector vector{IntAllocator("vector-held", REACHABLE)};
	static Deque deque{IntAllocator("deque-held", REACHABLE)};
	static Forward forward{IntAllocator("forward-list-held", REACHABLE)};
	static Hashed hashed{Noting<std::pair<const int, int>>("hash-held", REACHABLE)};

	for (int i = 0; i < 6; i++) {
		map.emplace(i, i);
		hashed.emplace(i, i);
		forward.push_front(i);
	}
	fill(list);
	vector.reserve(6);
	fill(vector);
	fill(deque);
}

/* The nodes of a map and of a list point back to the container. */
static void lost_map()
{
	Map *map = lost(new Map(Noting<std::pair<const int, int>>("map-node", INDIRECT)), "map-lost");

	for (int i = 0; i < 6; i++)
		map->emplace(i, i);
	expect_cycle_of("map-lost", "map-node");
}

static void lost_list()
{
	List *list = lost(new List(IntAllocator("list-node", INDIRECT)), "list-lost");

	fill(*list);
	expect_cycle_of("list-lost", "list-node");
}

static void lost_vector()
{
	Vector *vector = lost(new Vector(IntAllocator("vector-buffer", INDIRECT)), "vector-lost");

	vector->reserve(6);
	fill(*vector);
}

static void lost_forward_list()
{
	Forward *list = lost(new Forward(IntAllocator("forward-node", INDIRECT)), "forward-lost");

	for (int i = 0; i < 6; i++)
		list->push_front(i);
}

/* With the old strings, which share their text, the pointer is behind a header. */
static void strings()
{
	static String held("a text that does not fit into the object", Noting<char>("string-held", REACHABLE));
	String *gone = lost(new String(Noting<char>("string-text", INDIRECT)), "string-lost");

	gone->assign("another text that does not fit into the object");
}

struct Shared {
	std::shared_ptr<Shared> next;
	int number = 0;
};

static std::shared_ptr<Shared> shared(const char *name, class_of_block expected)
{
	return std::allocate_shared<Shared>(Noting<Shared>(name, expected));
}

static void shared_pointers()
{
	static auto held = shared("shared-held", REACHABLE);
	auto first = shared("shared-cycle", INDIRECT);
	auto second = shared("shared-cycle", INDIRECT);
	auto third = shared("shared-cycle", INDIRECT);

	held->next = shared("shared-held-next", REACHABLE);
	first->next = second;
	second->next = third;
	third->next = first;
	expect_cycle_of("shared-cycle", "");
}

/* The cycle is broken by a weak pointer; the object is gone, its block is still counted. */
static void weak_pointer()
{
	static std::weak_ptr<Shared> weak;

	weak = shared("weak-only", REACHABLE);
}

struct Owner {
	std::unique_ptr<Owner> next;
	char filler[40] = {};
};

static void unique_pointers()
{
	static std::unique_ptr<Owner> held(lost(new Owner, "unique-held", REACHABLE));
	Owner *first = lost(new Owner, "unique-lost");

	held->next.reset(lost(new Owner, "unique-held-next", REACHABLE));
	first->next.reset(lost(new Owner, "unique-lost-next", INDIRECT));
	first->next->next.reset(lost(new Owner, "unique-lost-last", INDIRECT));
}

struct Left {
	virtual ~Left() = default;
	virtual int left() { return 1; }
	long a = 1;
};

struct Right {
	virtual ~Right() = default;
	virtual int right() { return 2; }
	long b = 2;
};

struct Both : Left, Right {
	int left() override { return 3; }
	int right() override { return 4; }
	long c = 3;
};

static Right *volatile second_base;
static Left *volatile first_base;

/* A pointer to the second base is inside the object. */
static void multiple_inheritance()
{
	first_base = lost(new Both, "first-base", REACHABLE);
	second_base = lost(new Both, "second-base", REACHABLE);
	lost(new Both, "bases-lost");
}

struct Destroyed {
	int number = 7;
	int more[4] = {};

	~Destroyed() { number = 0; }
	static void *operator new[](size_t size)
	{
		return noted(::operator new(size), "array-held", size, REACHABLE);
	}
	static void operator delete[](void *block) { ::operator delete(block); }
};

static Destroyed *volatile array;
static void *volatile counted;

/* The number of elements is in front of the first. */
static void new_array()
{
	array = new Destroyed[7];
}

/* As SQLite does it: a block begins with the number of bytes behind that number. */
static void length_in_front()
{
	uint64_t *block = static_cast<uint64_t *>(BLOCK("length-in-front", 136, REACHABLE));

	*block = 128;
	counted = block + 1;
}

static void length_in_front_wrong()
{
	static void *volatile wrong;
	uint64_t *block = static_cast<uint64_t *>(BLOCK("length-in-front-wrong", 136, POSSIBLE));

	*block = 1000;
	wrong = block + 1;
	(void)wrong;
}

static void closures()
{
	static std::function<void()> held;
	static std::any any;
	void *captured = BLOCK("captured", 40, REACHABLE);
	long numbers[4] = {1, 2, 3, 4};

	held = [captured, numbers] { (void)captured, (void)numbers; };
	any = BLOCK("in-any", 40, REACHABLE);
}

struct Pimpl {
	struct Hidden {
		void *content = nullptr;
	};
	std::unique_ptr<Hidden> hidden{lost(new Hidden, "pimpl-hidden", INDIRECT)};
};

static void pimpl_lost()
{
	Pimpl *object = lost(new Pimpl, "pimpl");

	object->hidden->content = BLOCK("pimpl-content", 40, INDIRECT);
}

/* A set of pointers holds what it points to; a set of numbers hides nothing. */
static void pointers_in_a_set()
{
	static std::set<void *> held;

	for (int i = 0; i < 4; i++)
		held.insert(BLOCK("in-a-set", 48, REACHABLE));
}

static const reach_case cases[] = {
	CASE(held_containers),
	CASE(lost_map),
	CASE(lost_list),
	CASE(lost_vector),
	CASE(lost_forward_list),
	CASE(strings),
	CASE(shared_pointers),
	CASE(weak_pointer),
	CASE(unique_pointers),
	CASE(multiple_inheritance),
	CASE(new_array),
	CASE(length_in_front),
	CASE(length_in_front_wrong),
	CASE(closures),
	CASE(pimpl_lost),
	CASE(pointers_in_a_set),
};

int main(int argc, char **argv)
{
	return run_cases(argc, argv, cases, sizeof(cases) / sizeof(*cases));
}
