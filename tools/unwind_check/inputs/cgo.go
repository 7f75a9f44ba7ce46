// SPDX-License-Identifier: Apache-2.0
package main
// #include <stdlib.h>
import "C"
import "sync"
func main() {
	var wait sync.WaitGroup
	for n := 0; n < 4; n++ {
		wait.Add(1)
		go func() { defer wait.Done(); for i := 0; i < 500; i++ { C.free(C.malloc(C.size_t(i + 1))) } }()
	}
	wait.Wait()
}
