// SPDX-License-Identifier: Apache-2.0
// A service that keeps the answers of requests: `bounded` keeps 500, `growing` keeps all.

package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
)

var kept [][]byte

//go:noinline
func remember(number int) int {
	answer := make([]byte, 4000+number%101)
	for i := range answer {
		answer[i] = byte(number)
	}
	kept = append(kept, answer)
	return len(answer)
}

func main() {
	bounded := len(os.Args) > 1 && os.Args[1] == "bounded"
	lines := bufio.NewScanner(os.Stdin)
	number, held := 0, 0
	for lines.Scan() {
		requests, _ := strconv.Atoi(lines.Text())
		for ; requests > 0; requests-- {
			held += remember(number)
			number++
			if bounded && len(kept) > 500 {
				held -= len(kept[0])
				kept = append([][]byte{}, kept[1:]...)
			}
		}
		fmt.Println("held", held)
	}
}
