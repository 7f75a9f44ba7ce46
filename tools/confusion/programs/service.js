// SPDX-License-Identifier: Apache-2.0
// A service that keeps the answers of requests: `bounded` keeps 500, `growing` keeps all.

const bounded = process.argv[2] === "bounded";
const kept = [];
let number = 0;
let held = 0;

function remember() {
	const answer = Array.from({ length: 500 }, (_, index) => number + index + 0.5);
	number += 1;
	held += answer.length * 8;
	kept.push(answer);
}

require("readline")
	.createInterface({ input: process.stdin })
	.on("line", (line) => {
		for (let left = Number(line); left > 0; left--) {
			remember();
			if (bounded && kept.length > 500) held -= kept.shift().length * 8;
		}
		console.log(`held ${held}`);
	});
