// build: -O1 -g
// SPDX-License-Identifier: Apache-2.0
// Allocates objects of classes, and one of none; prints their addresses. With `lost`, loses them.
#include "answers.h"

namespace shapes {
template <typename T> struct Shape {
	virtual ~Shape() = default;
	virtual T area() const = 0;
};
struct Square final : Shape<long> {
	long side = 3;
	long area() const override { return side * side; }
};
} // namespace shapes

namespace {
struct Hidden {
	virtual ~Hidden() = default;
	char rest[80] = {};
};
} // namespace

struct Plain {
	const char *name = "plain";
	long rest[5] = {};
};

int main(int argc, char **argv)
{
	parse_now(argc, argv);
	shapes::Shape<long> *volatile shapes[3] = {new shapes::Square, new shapes::Square,
						   new shapes::Square};
	Hidden *volatile hidden = new Hidden;
	Plain *volatile plain = new Plain;
	char *volatile text = strcpy(static_cast<char *>(malloc(200)), "a line of text");

	answer("square", reinterpret_cast<long>(shapes[0]));
	answer("hidden", reinterpret_cast<long>(hidden));
	answer("plain", reinterpret_cast<long>(plain));
	answer("text", reinterpret_cast<long>(text));
	if (argc > 1 && strcmp(argv[1], "lost") == 0) {
		for (auto *volatile &shape : shapes)
			shape = nullptr;
		hidden = nullptr;
		plain = nullptr;
		text = nullptr;
	}
	stage("ready");
	stage("done");
	return 0;
}
